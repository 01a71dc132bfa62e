//! What `simulate` takes: the server's limits, its pace and its faults.

use std::path::PathBuf;

use clap::Args;

use super::exit_code::ExitCode;
use super::run_command::Failure;
use super::values::share;
use super::{console, signals};
use crate::simulate::quality::{Curve, Quality};
use crate::simulate::{
    self, Admission, Faults, HeaderStyle, LimitChange, MinuteKind, Refusal, RefusedParameter,
    Settings, SimulateError,
};

/// The server's limits, its pace and what it answers.
#[derive(Args, Clone, Debug)]
pub struct SimulateArguments {
    /// The port on 127.0.0.1; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = simulate::DEFAULT_PORT)]
    pub port: u16,
    /// Tokens in any 60 seconds; 0 = no limit
    #[arg(long, value_name = "TOKENS", default_value_t = 0, help_heading = "Limits")]
    pub tokens_per_minute: u32,
    /// Requests in any 60 seconds; 0 = no limit
    #[arg(long, value_name = "REQUESTS", default_value_t = 0, help_heading = "Limits")]
    pub requests_per_minute: u32,
    /// Input tokens a minute; 0 = no limit
    #[arg(long, value_name = "TOKENS", default_value_t = 0, help_heading = "Limits")]
    pub input_tokens_per_minute: u32,
    /// Output tokens a minute; 0 = no limit
    #[arg(long, value_name = "TOKENS", default_value_t = 0, help_heading = "Limits")]
    pub output_tokens_per_minute: u32,
    /// Requests a day; 0 = no limit
    #[arg(long, value_name = "REQUESTS", default_value_t = 0, help_heading = "Limits")]
    pub requests_per_day: u32,
    /// Tokens a day; 0 = no limit
    #[arg(long, value_name = "TOKENS", default_value_t = 0, help_heading = "Limits")]
    pub tokens_per_day: u32,
    /// How long a day is, seconds: a short one lets a run meet its end
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = Settings::DAY_SECONDS,
        help_heading = "Limits"
    )]
    pub day_s: u32,
    /// What a minute is: any 60 seconds, a counter that begins anew, or a bucket
    #[arg(
        long,
        value_name = "rolling|fixed|bucket",
        default_value = "rolling",
        value_parser = minute,
        help_heading = "Limits"
    )]
    pub minute_window: MinuteKind,
    /// Enforce the minute's limits over any so many seconds as well; 0 = not
    #[arg(long, value_name = "SECONDS", default_value_t = 0, help_heading = "Limits")]
    pub slice_s: u32,
    /// Share of the tokens a minute that somebody else uses all the time
    #[arg(
        long,
        value_name = "SHARE",
        default_value_t = 0.0,
        value_parser = share,
        help_heading = "Limits"
    )]
    pub second_client: f64,
    /// From so many seconds after the first request on, the minute's limits are this share of
    /// what they were; may be repeated
    #[arg(
        long,
        value_name = "SECONDS=SHARE",
        value_parser = limit_change,
        help_heading = "Limits"
    )]
    pub limits_change: Vec<LimitChange>,
    /// Whose spelling the rate headers have
    #[arg(
        long,
        value_name = "openai|azure|anthropic|groq|none",
        default_value = "openai",
        value_parser = header_style,
        help_heading = "Limits"
    )]
    pub headers: HeaderStyle,
    /// What a request counts on admission
    #[arg(
        long,
        value_name = "usage|max-tokens|max|input",
        default_value = "usage",
        value_parser = admission,
        help_heading = "Limits"
    )]
    pub admission: Admission,
    /// Time to the first token, milliseconds
    #[arg(long, value_name = "MS", default_value_t = 400, help_heading = "Pace")]
    pub latency_ms: u64,
    /// Time for each token of the reply, milliseconds
    #[arg(long, value_name = "MS", default_value_t = 6.0, value_parser = at_least_zero, help_heading = "Pace")]
    pub ms_per_output_token: f64,
    /// How much the time varies: a share of it, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.2, value_parser = share, help_heading = "Pace")]
    pub jitter: f64,
    /// By how much the server counts more tokens than the vocabulary: 0.05 = 5 % more
    #[arg(
        long,
        value_name = "SHARE",
        default_value_t = 0.0,
        allow_negative_numbers = true,
        value_parser = bias,
        help_heading = "Answers"
    )]
    pub count_bias: f64,
    /// Hidden reasoning tokens in every reply
    #[arg(long, value_name = "TOKENS", default_value_t = 0, help_heading = "Answers")]
    pub hidden_output_tokens: u32,
    /// Count no tokens for a schema
    #[arg(long, help_heading = "Answers")]
    pub free_schema: bool,
    /// Share of replies that don't tell their usage
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share, help_heading = "Answers")]
    pub no_usage: f64,
    /// Keep a prompt cache as GPT-5.6 does, and tell what is read from it and written into it
    #[arg(long, help_heading = "Answers")]
    pub prompt_cache: bool,
    /// Answer at once by a hash of the text and count four bytes as a token: measures the client
    #[arg(long, help_heading = "Answers", conflicts_with = "gold")]
    pub fixed_answer: bool,
    /// Answer from a CSV file with known answers
    #[arg(long, value_name = "PATH", help_heading = "Answers")]
    pub gold: Option<PathBuf>,
    /// The column of --gold with the text
    #[arg(long, value_name = "NAME", default_value = Settings::GOLD_TEXT_COLUMN, help_heading = "Answers")]
    pub gold_text_column: String,
    /// The column of --gold with the label's name
    #[arg(long, value_name = "NAME", default_value = Settings::GOLD_LABEL_COLUMN, help_heading = "Answers")]
    pub gold_label_column: String,
    /// Share of rows that are answered right, by rows in a call: 0.95, or 1=0.95,50=0.94,200=0.88
    #[arg(long, value_name = "CURVE", value_parser = curve, help_heading = "Quality")]
    pub accuracy: Option<Curve>,
    /// Share of rows that two askings in calls of one size answer differently: a share or a list
    #[arg(
        long,
        value_name = "CURVE",
        value_parser = curve,
        requires = "accuracy",
        help_heading = "Quality"
    )]
    pub disagreement: Option<Curve>,
    /// By how much accuracy falls from the first place of a call to the last
    #[arg(
        long,
        value_name = "SHARE",
        default_value_t = 0.0,
        value_parser = share,
        requires = "accuracy",
        help_heading = "Quality"
    )]
    pub late_loss: f64,
    /// Share of calls whose answers slip by a row: every key, each with its neighbour's answer
    #[arg(
        long,
        value_name = "SHARE",
        default_value_t = 0.0,
        value_parser = share,
        help_heading = "Quality"
    )]
    pub shift_rows: f64,
    /// Obey what rows say, and copy what looks like answers in them
    #[arg(long, help_heading = "Quality")]
    pub gullible: bool,
    /// The seed of all that is drawn, so that a run can be repeated
    #[arg(long, value_name = "NUMBER", default_value_t = Settings::SEED, help_heading = "Answers")]
    pub seed: u64,
    /// Refuse requests that hold this parameter (HTTP 400); repeat it for several
    #[arg(long, value_name = "NAME", value_parser = refused_parameter, help_heading = "Faults")]
    pub refuse_parameter: Vec<RefusedParameter>,
    /// Refuse requests with a row that holds this text
    #[arg(long, value_name = "TEXT", help_heading = "Faults")]
    pub refuse_marker: Option<String>,
    /// How such a request is refused: by its finish reason, or with HTTP 400
    #[arg(
        long,
        value_name = "finish|status",
        default_value = "finish",
        value_parser = refusal,
        help_heading = "Faults"
    )]
    pub refusal: Refusal,
    /// Count the tokens of requests that are answered 429 too
    #[arg(long, help_heading = "Limits")]
    pub charge_rejected: bool,
    /// Share of rows that a reply leaves out
    #[arg(long, value_name = "SHARE", value_parser = share, help_heading = "Faults")]
    pub drop: Option<f64>,
    /// Share of rows that a reply answers twice, differently
    #[arg(long, value_name = "SHARE", value_parser = share, help_heading = "Faults")]
    pub repeat: Option<f64>,
    /// Share of rows that get a code which no label has
    #[arg(long, value_name = "SHARE", value_parser = share, help_heading = "Faults")]
    pub unknown_code: Option<f64>,
    /// Share of rows that get an answer under a key which was not asked
    #[arg(long, value_name = "SHARE", value_parser = share, help_heading = "Faults")]
    pub foreign_key: Option<f64>,
    /// Share of replies in shuffled order
    #[arg(long, value_name = "SHARE", value_parser = share, help_heading = "Faults")]
    pub shuffle: Option<f64>,
    /// Share of replies that are cut
    #[arg(long, value_name = "SHARE", value_parser = share, help_heading = "Faults")]
    pub cut: Option<f64>,
    /// Share of replies in a code fence with prose around it
    #[arg(long, value_name = "SHARE", value_parser = share, help_heading = "Faults")]
    pub fence: Option<f64>,
    /// Share of requests that are refused as a whole
    #[arg(long, value_name = "SHARE", value_parser = share, help_heading = "Faults")]
    pub refuse: Option<f64>,
    /// Share of requests answered with HTTP 500
    #[arg(long = "status-500", value_name = "SHARE", value_parser = share, help_heading = "Faults")]
    pub status_500: Option<f64>,
    /// Share of requests answered with HTTP 429 for no reason
    #[arg(long = "status-429", value_name = "SHARE", value_parser = share, help_heading = "Faults")]
    pub status_429: Option<f64>,
    /// Share of connections that are reset before the reply is whole
    #[arg(long, value_name = "SHARE", value_parser = share, help_heading = "Faults")]
    pub reset: Option<f64>,
    /// Share of requests that are never answered
    #[arg(long, value_name = "SHARE", value_parser = share, help_heading = "Faults")]
    pub hang: Option<f64>,
    /// All of these shares at once; one that is given by itself stands
    #[arg(long, value_name = "SHARE", value_parser = share, help_heading = "Faults")]
    pub faults: Option<f64>,
}

impl SimulateArguments {
    /// What the server is told.
    fn settings(&self) -> Settings {
        let limit = |tokens: u32| Some(tokens).filter(|tokens| *tokens > 0);
        Settings {
            tokens_per_minute: limit(self.tokens_per_minute),
            requests_per_minute: limit(self.requests_per_minute),
            input_tokens_per_minute: limit(self.input_tokens_per_minute),
            output_tokens_per_minute: limit(self.output_tokens_per_minute),
            requests_per_day: limit(self.requests_per_day),
            tokens_per_day: limit(self.tokens_per_day),
            day_seconds: self.day_s,
            minute: self.minute_window,
            slice_seconds: self.slice_s,
            second_client: self.second_client,
            limit_changes: self.limits_change.clone(),
            headers: self.headers,
            admission: self.admission,
            charge_rejected: self.charge_rejected,
            charge_schema: !self.free_schema,
            count_bias_percent: self.count_bias * 100.0,
            hidden_output_tokens: self.hidden_output_tokens,
            latency_ms: self.latency_ms,
            ms_per_output_token: self.ms_per_output_token,
            jitter_percent: self.jitter * 100.0,
            seed: self.seed,
            refuse_parameters: self.refuse_parameter.clone(),
            refuse_marker: self.refuse_marker.clone(),
            refusal: self.refusal,
            gold: self.gold.clone(),
            gold_text_column: self.gold_text_column.clone(),
            gold_label_column: self.gold_label_column.clone(),
            fixed_answer: self.fixed_answer,
            no_usage: self.no_usage,
            prompt_cache: self.prompt_cache,
            faults: self.faults(),
            quality: Quality {
                accuracy: self.accuracy.clone(),
                disagreement: self.disagreement.clone(),
                late_loss: self.late_loss,
                shift_rows: self.shift_rows,
                gullible: self.gullible,
            },
        }
    }

    /// The share of each fault: its own, else that of all.
    fn faults(&self) -> Faults {
        let all = self.faults.unwrap_or(0.0);
        Faults {
            drop_row: self.drop.unwrap_or(all),
            repeat_row: self.repeat.unwrap_or(all),
            unknown_code: self.unknown_code.unwrap_or(all),
            foreign_key: self.foreign_key.unwrap_or(all),
            shuffle: self.shuffle.unwrap_or(all),
            cut: self.cut.unwrap_or(all),
            fence: self.fence.unwrap_or(all),
            refuse: self.refuse.unwrap_or(all),
            status_500: self.status_500.unwrap_or(all),
            status_429: self.status_429.unwrap_or(all),
            reset: self.reset.unwrap_or(all),
            hang: self.hang.unwrap_or(all),
        }
    }
}

/// Serves on loopback until it is interrupted; the address goes to stdout.
///
/// # Errors
/// If the settings contradict each other, the port is taken or the gold file can't be read.
pub(super) fn simulate(arguments: &SimulateArguments) -> Result<ExitCode, Failure> {
    let internal = |error: std::io::Error| Failure::new(ExitCode::Internal, error);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let stop = signals::listen(|| {}).map_err(internal)?;
    runtime.map_err(internal)?.block_on(async {
        let usage = |error: SimulateError| Failure::new(ExitCode::Usage, error);
        let server = simulate::serve(arguments.settings(), arguments.port).await.map_err(usage)?;
        let base_url = server.base_url();
        let words = format!("listening on {base_url}\n");
        console::data(&words).map_err(internal)?;
        console::message(&format!(
            "ask it with --base-url {base_url}; counts at http://{}/stats; Ctrl-C ends it",
            server.address()
        ));
        stop.wait().await;
        server.shutdown().await;
        Ok(ExitCode::Done)
    })
}

fn admission(text: &str) -> Result<Admission, String> {
    text.replace('-', "_")
        .parse()
        .map_err(|_| "it wants usage, max-tokens, max or input".to_owned())
}

fn minute(text: &str) -> Result<MinuteKind, String> {
    text.parse::<MinuteKind>().map_err(|error| error.to_string())
}

fn header_style(text: &str) -> Result<HeaderStyle, String> {
    text.parse::<HeaderStyle>().map_err(|error| error.to_string())
}

fn refused_parameter(text: &str) -> Result<RefusedParameter, String> {
    text.parse::<RefusedParameter>().map_err(|error| error.to_string())
}

fn refusal(text: &str) -> Result<Refusal, String> {
    text.parse::<Refusal>().map_err(|error| error.to_string())
}

fn limit_change(text: &str) -> Result<LimitChange, &'static str> {
    let change = text.split_once('=').and_then(|(seconds, part)| {
        let (after_seconds, share) = (seconds.parse().ok()?, share(part).ok()?);
        Some(LimitChange { after_seconds, share })
    });
    change.ok_or("it wants seconds and a share from 0 to 1, such as 90=0.5")
}

fn curve(text: &str) -> Result<Curve, String> {
    text.parse::<Curve>().map_err(|error| error.to_string())
}

fn at_least_zero(text: &str) -> Result<f64, &'static str> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0);
    number.ok_or("it wants a number of at least 0")
}

fn bias(text: &str) -> Result<f64, &'static str> {
    let share = text.parse().ok().filter(|share| (-0.5..=1.0).contains(share));
    share.ok_or("it wants a share from -0.5 to 1, such as 0.05")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: SimulateArguments,
    }

    fn parsed(flags: &[&str]) -> Result<SimulateArguments, clap::Error> {
        let line = Line::try_parse_from(std::iter::once(&"simulate").chain(flags));
        line.map(|line| line.arguments)
    }

    #[test]
    fn all_faults_at_once_leave_those_that_were_given() {
        let arguments = parsed(&["--faults", "0.05", "--hang", "0", "--cut", "1"]).unwrap();
        let Faults { drop_row, hang, cut, .. } = arguments.faults();
        assert_eq!((drop_row, hang, cut), (0.05, 0.0, 1.0));
        assert_eq!(parsed(&[]).unwrap().faults(), Faults::default());
    }

    #[test]
    fn a_share_above_one_is_refused() {
        let error = parsed(&["--drop", "5"]).unwrap_err().to_string();
        assert!(error.contains("it wants a share from 0 to 1"), "{error}");
    }

    #[test]
    fn limits_may_change_more_than_once() {
        let arguments = parsed(&["--limits-change", "90=0.5", "--limits-change", "180=1"]).unwrap();
        let changes = [(90, 0.5), (180, 1.0)]
            .map(|(after_seconds, share)| LimitChange { after_seconds, share });
        assert_eq!(arguments.limits_change, changes);
        for text in ["90", "90=2", "x=0.5"] {
            let error = parsed(&["--limits-change", text]).unwrap_err().to_string();
            assert!(error.contains("such as 90=0.5"), "{error}");
        }
    }

    #[test]
    fn the_server_may_count_fewer_tokens() {
        assert_eq!(parsed(&["--count-bias", "-0.1"]).unwrap().count_bias, -0.1);
        assert!(parsed(&["--count-bias", "-0.9"]).is_err());
    }
}

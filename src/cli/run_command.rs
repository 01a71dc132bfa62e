//! `run` and `preview`: settings to a job, a job to the engine, its end to an exit code.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::api_key::{ApiKeyError, api_key};
use super::arguments::{ConfigArgument, PreviewArguments, RunArguments};
use super::config_file::{self, ConfigError, DEFAULT_PATH};
use super::exit_code::ExitCode;
use super::job::{JobError, job};
use super::preview_view::preview;
use super::progress::Progress;
use super::settings::Settings;
use super::signals::{self, Signal, StopSignal};
use super::summary_view::summary;
use super::values::ProgressMode;
use super::{console, engine, environment};
use crate::domain::clock::SystemClock;
use crate::domain::{Clock, EventSink, JobSpec};
use crate::llm::price::PriceError;
use crate::llm::provider::{ApiKey, ProviderSetupError};

/// What a command has around it.
pub(super) struct Surroundings {
    /// Where events go.
    pub(super) events: Arc<dyn EventSink>,
    /// Whether the command was asked to stop.
    pub(super) stop: StopSignal,
    /// The time.
    pub(super) clock: Arc<dyn Clock>,
    /// The key for the service, if one is sent.
    pub(super) api_key: Option<ApiKey>,
    /// Whether an output is taken over from a run that is not seen to be alive.
    pub(super) takeover: bool,
}

/// A command that came to nothing: why, and what the shell is told.
#[derive(Debug)]
pub struct Failure {
    /// What the shell is told.
    pub code: ExitCode,
    /// Why.
    pub error: Box<dyn Error + Send + Sync>,
}

impl Failure {
    /// A failure with this exit code.
    pub fn new(code: ExitCode, error: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
        Failure { code, error: error.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

macro_rules! usage_failures {
    ($($error:ty),+) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Failure {
                Failure::new(ExitCode::Usage, error)
            }
        })+
    };
}

usage_failures!(ConfigError, JobError, ApiKeyError, PriceError, ProviderSetupError);

/// Classifies the input into the output, or goes on where that stopped.
///
/// # Errors
/// If the settings make no job, or the engine has no end to report.
pub(super) fn run(arguments: RunArguments) -> Result<ExitCode, Failure> {
    let (settings, config) = settings(arguments.settings, &arguments.config)?;
    let mode = settings.run.progress.unwrap_or_default();
    let mut job = job(settings, arguments.input, arguments.output, config.as_deref())?;
    job.output.state_folder = environment::state_folder();
    let mut desk = Desk::open(&job, mode)?;
    desk.around.takeover = arguments.takeover;
    let stop = desk.around.stop.clone();
    let report = desk.see_through(|around| engine::run(job, around))?;
    if mode != ProgressMode::Json {
        console::message(&summary(&report));
    }
    Ok(report.exit_code(stop.signal().map(Signal::exit_code)))
}

/// Asks for 20 rows and shows what they got, the request and its cost.
///
/// # Errors
/// If the settings make no job, the input can't be used or the provider doesn't answer.
pub(super) fn run_preview(arguments: PreviewArguments) -> Result<ExitCode, Failure> {
    let (settings, config) = settings(arguments.settings, &arguments.config)?;
    let mode = settings.run.progress.unwrap_or(ProgressMode::None);
    let job = job(settings, arguments.input, PathBuf::new(), config.as_deref())?;
    let desk = Desk::open(&job, mode)?;
    let asked = desk.see_through(|around| engine::preview(job, around))?;
    console::data(&preview(&asked)).map_err(|error| Failure::new(ExitCode::Internal, error))?;
    Ok(ExitCode::Done)
}

/// The settings that were typed, over the environment's, over the config's; and which config it was.
pub(super) fn settings(
    typed: Settings,
    config: &ConfigArgument,
) -> Result<(Settings, Option<PathBuf>), ConfigError> {
    let file = match &config.path {
        Some(path) => Some(path.clone()),
        None => Some(PathBuf::from(DEFAULT_PATH)).filter(|path| path.exists()),
    };
    let settings = match &file {
        Some(file) => typed.over(config_file::read(Path::new(file))?),
        None => typed,
    };
    Ok((settings, file))
}

/// What a run needs from its surroundings, set up before anything is spent.
pub(super) struct Desk {
    runtime: tokio::runtime::Runtime,
    progress: Arc<Progress>,
    /// What the work is handed.
    pub(super) around: Surroundings,
}

impl Desk {
    /// Sets everything up; the key is looked for, nothing is sent.
    ///
    /// # Errors
    /// If the key is missing or the system gives no threads.
    pub(super) fn open(job: &JobSpec, mode: ProgressMode) -> Result<Desk, Failure> {
        let api_key = api_key(&job.model, environment::variable)?;
        let internal = |error: std::io::Error| Failure::new(ExitCode::Internal, error);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(internal)?;
        let longest = job.model.reply_timeout.as_secs();
        let announce = move || {
            if mode != ProgressMode::Json {
                console::message(&format!(
                    "stopping: calls in flight are finished first, which takes {longest} s at \
                     most; once more ends at once"
                ));
            }
        };
        let stop = signals::listen(announce).map_err(internal)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let progress = Arc::new(Progress::start(mode, Arc::clone(&clock)));
        let events = Arc::clone(&progress) as Arc<dyn EventSink>;
        let around = Surroundings { events, stop, clock, api_key, takeover: false };
        Ok(Desk { runtime, progress, around })
    }

    /// Does the work to its end and takes the display down.
    pub(super) fn see_through<T, F: Future<Output = T>>(
        self,
        work: impl FnOnce(Surroundings) -> F,
    ) -> T {
        let ended = self.runtime.block_on(work(self.around));
        self.progress.finish();
        // What still hangs in a system call holds nobody up: the process is about to end.
        self.runtime.shutdown_background();
        ended
    }
}

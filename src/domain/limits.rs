//! How fast a model may be asked: the numbers of an account, and the rules by which its provider
//! counts. Plain values; which provider has which rules stands in `llm::governor::vendors`.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use super::{Charge, Tokens, Usage};

/// How fast the model may be asked. `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Tokens a minute, counted by [`Rules::charge_rule`].
    pub tokens_per_minute: Option<NonZeroU32>,
    /// Requests a minute.
    pub requests_per_minute: Option<NonZeroU32>,
    /// Input tokens a minute, where the provider limits them by themselves.
    pub input_tokens_per_minute: Option<NonZeroU32>,
    /// Output tokens a minute, where the provider limits them by themselves.
    pub output_tokens_per_minute: Option<NonZeroU32>,
    /// Requests a day.
    pub requests_per_day: Option<NonZeroU64>,
    /// Tokens a day.
    pub tokens_per_day: Option<NonZeroU64>,
    /// What a run does when a day's limit is used up.
    pub on_daily_limit: OnDailyLimit,
    /// How the provider counts.
    pub rules: Rules,
}

/// How a provider counts. The default is safe for all of them: what it lets through fits into
/// every other kind of window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// What a call counts towards limits on tokens.
    pub charge_rule: ChargeRule,
    /// Whether prompt tokens that come from the provider's cache count.
    pub cached_tokens: Counting,
    /// Whether the tokens of a call that is answered 429 count. Its request does in any case.
    pub refused_calls: Counting,
    /// What a minute is.
    pub minute_window: MinuteWindow,
    /// What a day is.
    pub day_window: DayWindow,
    /// Requests a minute are also enforced over each slice of this length.
    pub request_slice: Option<Duration>,
    /// Limits on tokens a minute are also enforced over each slice of this length.
    pub token_slice: Option<Duration>,
    /// Headers that speak of `requests` mean those of a day.
    pub request_headers_are_daily: bool,
}

/// What a call counts towards limits on tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChargeRule {
    /// Prompt and reply, as `usage` tells.
    #[default]
    Usage,
    /// The same, but at least the most that the call allows its reply.
    Max,
    /// The prompt and the most that the call allows its reply.
    Sum,
    /// The prompt alone.
    Input,
}

/// Whether something counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Counting {
    /// It does.
    #[default]
    Counted,
    /// It does not.
    Free,
}

/// What a minute is to a provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinuteWindow {
    /// Any 60 seconds.
    #[default]
    Rolling,
    /// A counter that begins anew each minute; when is not known.
    Fixed,
    /// A bucket that holds a minute's worth and fills up steadily.
    Bucket,
}

/// What a day is to a provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DayWindow {
    /// Any 24 hours.
    #[default]
    Rolling,
    /// From midnight to midnight, UTC.
    Utc,
    /// From midnight to midnight in California.
    Pacific,
}

/// Whose rules the limits follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// OpenAI itself.
    Openai,
    /// Azure OpenAI (Foundry).
    Azure,
    /// Anthropic.
    Anthropic,
    /// Google's Gemini API.
    Gemini,
    /// Groq.
    Groq,
    /// Mistral.
    Mistral,
    /// DeepSeek.
    Deepseek,
    /// Together.
    Together,
    /// Cerebras.
    Cerebras,
    /// OpenRouter.
    Openrouter,
    /// A server of one's own: vLLM, SGLang, llama.cpp, Ollama.
    Local,
    /// Anybody else.
    Other,
}

impl Vendor {
    /// How it is written in a config.
    pub fn name(self) -> &'static str {
        match self {
            Vendor::Openai => "openai",
            Vendor::Azure => "azure",
            Vendor::Anthropic => "anthropic",
            Vendor::Gemini => "gemini",
            Vendor::Groq => "groq",
            Vendor::Mistral => "mistral",
            Vendor::Deepseek => "deepseek",
            Vendor::Together => "together",
            Vendor::Cerebras => "cerebras",
            Vendor::Openrouter => "openrouter",
            Vendor::Local => "local",
            Vendor::Other => "other",
        }
    }
}

/// What a run does when a day's limit is used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDailyLimit {
    /// It waits until there is room again.
    #[default]
    Wait,
    /// It ends, resumable, as with quota that is used up.
    Stop,
}

impl Rules {
    /// What a call counts that used `usage` and allowed its reply `most` tokens.
    pub fn charge(&self, usage: &Usage, most: Tokens) -> Charge {
        let input = match self.cached_tokens {
            Counting::Counted => usage.prompt,
            Counting::Free => usage.prompt.saturating_sub(usage.cached),
        };
        let output = usage.completion;
        let tokens = match self.charge_rule {
            ChargeRule::Usage => input + output,
            ChargeRule::Max => (input + output).max(most),
            ChargeRule::Sum => input + most.max(output),
            ChargeRule::Input => input,
        };
        Charge { tokens, input, output }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_counts_what_its_provider_counts() {
        let usage = Usage {
            prompt: Tokens(1_650),
            completion: Tokens(160),
            reasoning: Tokens::ZERO,
            cached: Tokens(1_024),
            written: Tokens::ZERO,
        };
        let tokens = |charge_rule, cached_tokens, most| {
            let rules = Rules { charge_rule, cached_tokens, ..Rules::default() };
            rules.charge(&usage, Tokens(most)).tokens.0
        };
        use Counting::{Counted, Free};
        assert_eq!(tokens(ChargeRule::Usage, Counted, 192), 1_810);
        assert_eq!(tokens(ChargeRule::Usage, Free, 192), 786);
        assert_eq!(tokens(ChargeRule::Max, Counted, 192), 1_810);
        assert_eq!(tokens(ChargeRule::Max, Counted, 4_000), 4_000);
        assert_eq!(tokens(ChargeRule::Sum, Counted, 192), 1_842);
        assert_eq!(
            tokens(ChargeRule::Sum, Counted, 100),
            1_810,
            "it used more than it was allowed"
        );
        assert_eq!(tokens(ChargeRule::Input, Counted, 192), 1_650);
        let charge = Rules::default().charge(&usage, Tokens(192));
        assert_eq!((charge.input, charge.output), (Tokens(1_650), Tokens(160)));
    }
}

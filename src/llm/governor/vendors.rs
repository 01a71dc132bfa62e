//! Which provider counts how: one table, chosen by the host that is asked or by name. The config
//! can override each rule; `docs/pacing.md` shows the same table.
//!
//! Where a vendor does not say, the rule that is safe for every answer stands here.

use std::time::Duration;

use crate::domain::limits::{ChargeRule, Counting, DayWindow, MinuteWindow, Rules, Vendor};

/// What is safe for every provider.
const SAFE: Rules = Rules {
    charge_rule: ChargeRule::Usage,
    cached_tokens: Counting::Counted,
    refused_calls: Counting::Counted,
    minute_window: MinuteWindow::Rolling,
    day_window: DayWindow::Rolling,
    request_slice: None,
    token_slice: None,
    request_headers_are_daily: false,
};

/// One provider.
#[derive(Clone, Copy, Debug)]
pub struct VendorRules {
    /// Its name.
    pub vendor: Vendor,
    /// Hosts that are its own, and all below them.
    pub hosts: &'static [&'static str],
    /// How it counts.
    pub rules: Rules,
}

/// All providers.
pub const VENDORS: &[VendorRules] = &[
    VendorRules {
        vendor: Vendor::Openai,
        hosts: &["api.openai.com"],
        rules: Rules { charge_rule: ChargeRule::Max, ..SAFE },
    },
    VendorRules {
        vendor: Vendor::Azure,
        hosts: &["openai.azure.com", "services.ai.azure.com", "cognitiveservices.azure.com"],
        rules: Rules {
            charge_rule: ChargeRule::Sum,
            minute_window: MinuteWindow::Fixed,
            request_slice: Some(Duration::from_secs(10)),
            ..SAFE
        },
    },
    VendorRules {
        vendor: Vendor::Anthropic,
        hosts: &["api.anthropic.com"],
        rules: Rules { cached_tokens: Counting::Free, minute_window: MinuteWindow::Bucket, ..SAFE },
    },
    VendorRules {
        vendor: Vendor::Gemini,
        hosts: &["generativelanguage.googleapis.com"],
        rules: Rules { charge_rule: ChargeRule::Input, day_window: DayWindow::Pacific, ..SAFE },
    },
    VendorRules {
        vendor: Vendor::Groq,
        hosts: &["api.groq.com"],
        rules: Rules { cached_tokens: Counting::Free, request_headers_are_daily: true, ..SAFE },
    },
    VendorRules {
        vendor: Vendor::Mistral,
        hosts: &["api.mistral.ai"],
        rules: Rules { request_slice: Some(Duration::from_secs(1)), ..SAFE },
    },
    VendorRules { vendor: Vendor::Deepseek, hosts: &["api.deepseek.com"], rules: SAFE },
    VendorRules {
        vendor: Vendor::Together,
        hosts: &["api.together.xyz", "api.together.ai"],
        rules: SAFE,
    },
    VendorRules {
        vendor: Vendor::Cerebras,
        hosts: &["api.cerebras.ai"],
        rules: Rules { charge_rule: ChargeRule::Sum, ..SAFE },
    },
    VendorRules { vendor: Vendor::Openrouter, hosts: &["openrouter.ai"], rules: SAFE },
    VendorRules {
        vendor: Vendor::Local,
        hosts: &["localhost"],
        rules: Rules { refused_calls: Counting::Free, ..SAFE },
    },
    VendorRules { vendor: Vendor::Other, hosts: &[], rules: SAFE },
];

/// How `vendor` counts.
pub fn rules_of(vendor: Vendor) -> Rules {
    VENDORS.iter().find(|it| it.vendor == vendor).map_or(SAFE, |it| it.rules)
}

/// Whose host this is; a port is passed over.
pub fn vendor_at(host: &str) -> Vendor {
    let host = host.rsplit_once(':').map_or(host, |(name, _)| name).to_ascii_lowercase();
    let is_theirs = |theirs: &&str| {
        host.strip_suffix(*theirs).is_some_and(|below| below.is_empty() || below.ends_with('.'))
    };
    let found = VENDORS.iter().find(|it| it.hosts.iter().any(&is_theirs));
    found.map_or(Vendor::Other, |it| it.vendor)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn a_host_tells_its_vendor() {
        for (host, vendor) in [
            ("api.openai.com", Vendor::Openai),
            ("my-resource.openai.azure.com", Vendor::Azure),
            ("API.groq.com:443", Vendor::Groq),
            ("localhost", Vendor::Local),
            ("notapi.openai.com", Vendor::Other),
            ("api.openai.com.evil.example", Vendor::Other),
            ("", Vendor::Other),
        ] {
            assert_eq!(vendor_at(host), vendor, "{host}");
        }
    }

    #[test]
    fn what_nobody_said_is_what_the_config_has_by_default() {
        assert_eq!(SAFE, Rules::default());
        assert_eq!(rules_of(Vendor::Other), SAFE);
    }

    #[test]
    fn the_documentation_shows_this_table() {
        let page = include_str!("../../../docs/pacing.md");
        let mut table = String::new();
        for VendorRules { vendor, rules, .. } in VENDORS {
            let counts = |counting| if counting == Counting::Counted { "count" } else { "free" };
            let charge = match rules.charge_rule {
                ChargeRule::Usage => "`usage`",
                ChargeRule::Max => "`max`",
                ChargeRule::Sum => "`sum`",
                ChargeRule::Input => "`input`",
            };
            let minute = match rules.minute_window {
                MinuteWindow::Rolling => "rolling",
                MinuteWindow::Fixed => "fixed",
                MinuteWindow::Bucket => "bucket",
            };
            let day = match rules.day_window {
                DayWindow::Rolling => "rolling",
                DayWindow::Utc => "utc",
                DayWindow::Pacific => "pacific",
            };
            let slice = |slice: Option<Duration>| {
                slice.map_or("-".to_owned(), |slice| format!("{} s", slice.as_secs()))
            };
            let headers = if rules.request_headers_are_daily { "day" } else { "minute" };
            writeln!(
                table,
                "| `{}` | {charge} | {} | {} | {minute} | {day} | {} | {headers} |",
                vendor.name(),
                counts(rules.cached_tokens),
                counts(rules.refused_calls),
                slice(rules.request_slice),
            )
            .unwrap();
        }
        assert!(page.contains(&table), "docs/pacing.md should hold:\n{table}");
    }
}

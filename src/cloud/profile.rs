//! A profile of the AWS tools: what `~/.aws/credentials` and `~/.aws/config` say under one name.
//!
//! Pure: the files' texts come in. Values are secrets and are never shown.

use std::collections::BTreeMap;

/// The settings of one profile, the credentials file's over the config's.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Profile {
    settings: BTreeMap<String, String>,
}

/// Where a profile has its credentials from.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// They stand in it.
    Keys { key_id: String, secret_key: String, token: Option<String> },
    /// This command prints them.
    Process(String),
    /// The AWS tools get them in a way that only they know, such as `SSO`.
    Elsewhere(&'static str),
    /// It has none.
    Nowhere,
}

impl Profile {
    /// The profile `name`; `None` if neither file has it.
    pub(super) fn find(name: &str, credentials: &str, config: &str) -> Option<Profile> {
        let in_config = |section: &str| {
            let profile = section.strip_prefix("profile").map(str::trim_start);
            profile == Some(name) || (section == "default" && name == "default")
        };
        let (mut settings, is_configured) = section_of(config, in_config);
        let (secrets, is_secret) = section_of(credentials, |section| section == name);
        settings.extend(secrets);
        (is_configured || is_secret).then_some(Profile { settings })
    }

    /// Where its credentials come from.
    pub(super) fn source(&self) -> Source {
        let keys = (self.get("aws_access_key_id"), self.get("aws_secret_access_key"));
        let takes_a_role = self.get("role_arn").is_some();
        let signs_on = ["sso_session", "sso_start_url"].iter().any(|key| self.get(key).is_some());
        match (keys, self.get("credential_process")) {
            ((Some(key_id), Some(secret_key)), _) if !takes_a_role => {
                Source::Keys { key_id, secret_key, token: self.get("aws_session_token") }
            }
            (_, Some(command)) => Source::Process(command),
            _ if takes_a_role => Source::Elsewhere("an assumed role"),
            _ if signs_on => Source::Elsewhere("SSO"),
            _ if self.get("login_session").is_some() => Source::Elsewhere("`aws login`"),
            _ => Source::Nowhere,
        }
    }

    /// The region that it works in.
    pub(super) fn region(&self) -> Option<String> {
        self.get("region")
    }

    /// The server that it works with.
    pub(super) fn endpoint_url(&self) -> Option<String> {
        self.get("endpoint_url")
    }

    fn get(&self, key: &str) -> Option<String> {
        self.settings.get(key).filter(|value| !value.is_empty()).cloned()
    }
}

/// The keys and values of the sections that `is_meant`, and whether there is one.
fn section_of(text: &str, is_meant: impl Fn(&str) -> bool) -> (BTreeMap<String, String>, bool) {
    let mut settings = BTreeMap::new();
    let (mut is_inside, mut is_found) = (false, false);
    for line in text.lines() {
        // An indented line belongs to the value before it, such as `s3 =`.
        if line.starts_with([' ', '\t', '#', ';']) {
            continue;
        }
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            is_inside = is_meant(section.trim());
            is_found |= is_inside;
        } else if let Some((key, value)) = line.split_once('=').filter(|_| is_inside) {
            settings.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    (settings, is_found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS: &str = "\
[default]
aws_access_key_id = A
aws_secret_access_key=S/+=
; [other]
[temporary]
AWS_ACCESS_KEY_ID = T
aws_secret_access_key = TS
aws_session_token = TT
";
    const CONFIG: &str = "\
[default]
region = eu-west-1
s3 =
  region = no
[profile temporary]
endpoint_url = http://localhost:9000
aws_access_key_id = lower
[profile  tool]
credential_process = tool --profile \"a b\"
[profile sso]
sso_session = x
[profile role]
role_arn = arn
source_profile = default
[sso-session x]
region = no
[profile empty]
";

    fn source(name: &str) -> Option<Source> {
        Profile::find(name, CREDENTIALS, CONFIG).map(|profile| profile.source())
    }

    #[test]
    fn both_files_speak_for_a_profile_and_the_credentials_win() {
        let default = Profile::find("default", CREDENTIALS, CONFIG).unwrap();
        assert_eq!(default.region().as_deref(), Some("eu-west-1"));
        let keys = |key_id: &str, secret_key: &str, token: Option<&str>| Source::Keys {
            key_id: key_id.into(),
            secret_key: secret_key.into(),
            token: token.map(str::to_owned),
        };
        assert!(default.source() == keys("A", "S/+=", None));
        assert!(source("temporary") == Some(keys("T", "TS", Some("TT"))));
        let temporary = Profile::find("temporary", CREDENTIALS, CONFIG).unwrap();
        assert_eq!(temporary.endpoint_url().as_deref(), Some("http://localhost:9000"));
    }

    #[test]
    fn what_only_the_tools_of_aws_can_do_is_told_apart() {
        assert!(source("tool") == Some(Source::Process("tool --profile \"a b\"".into())));
        assert!(source("sso") == Some(Source::Elsewhere("SSO")));
        assert!(source("role") == Some(Source::Elsewhere("an assumed role")));
        assert!(source("empty") == Some(Source::Nowhere));
        assert!(source("other").is_none());
        assert!(source("x").is_none(), "a session is no profile");
    }
}

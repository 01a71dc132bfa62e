//! Where requests to S3 are signed from: variables, a profile, or what the machine is given.
//!
//! A profile is read again when one of its files changes and when its credentials are about to
//! expire, so that a run outlives the session that it was started in.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::error::{CloudError, Refusal};
use super::profile::{Profile, Source};
use super::wire;
use crate::domain::clock::SystemClock;
use crate::domain::{Clock as _, UnixMillis};

/// How long before they expire credentials are renewed: longer than any request takes.
const RENEW_BEFORE_MS: u64 = 5 * 60 * 1_000;
/// Longest wait for a `credential_process`.
const PROCESS_WITHIN: Duration = Duration::from_secs(60);

const NOT_FOUND: &str = "no credentials for S3 were found; set AWS_PROFILE, or AWS_ACCESS_KEY_ID \
                         and AWS_SECRET_ACCESS_KEY, or run `aws configure`";

/// The files of the AWS tools and the profile that is meant.
#[derive(Clone, Debug)]
struct ProfileFiles {
    name: String,
    credentials: PathBuf,
    config: PathBuf,
}

/// A profile that is there.
pub(super) struct FoundProfile {
    files: ProfileFiles,
    profile: Profile,
}

/// The profile that `environment` means; `None` if it means none and there is no default one.
///
/// # Errors
/// If it names a profile that is not there.
pub(super) fn profile(
    environment: &BTreeMap<String, String>,
) -> Result<Option<FoundProfile>, CloudError> {
    let variable = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    let named = variable("AWS_PROFILE").or_else(|| variable("AWS_DEFAULT_PROFILE"));
    let home = variable("HOME").map(PathBuf::from).unwrap_or_default();
    let file = |name: &str, usual: &str| {
        variable(name).map_or_else(|| home.join(".aws").join(usual), PathBuf::from)
    };
    let files = ProfileFiles {
        name: named.cloned().unwrap_or_else(|| "default".to_owned()),
        credentials: file("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
        config: file("AWS_CONFIG_FILE", "config"),
    };
    match files.read() {
        Some(profile) => Ok(Some(FoundProfile { files, profile })),
        None if named.is_some() && !has_keys(environment) => Err(files.is_missing()),
        None => Ok(None),
    }
}

fn has_keys(environment: &BTreeMap<String, String>) -> bool {
    let is_set = |name: &str| environment.get(name).is_some_and(|value| !value.is_empty());
    is_set("AWS_ACCESS_KEY_ID") || is_set("AWS_SECRET_ACCESS_KEY")
}

/// What to say if the credentials that `environment` leads to can't be had.
///
/// # Errors
/// If it is plain already that there are none.
pub(super) fn check(environment: &BTreeMap<String, String>) -> Result<&'static str, CloudError> {
    let is_set = |name: &str| environment.get(name).is_some_and(|value| !value.is_empty());
    let is_on =
        |name: &str| environment.get(name).is_some_and(|it| it.eq_ignore_ascii_case("true"));
    if is_on("AWS_SKIP_SIGNATURE") {
        return Ok(NOT_FOUND);
    }
    if has_keys(environment) {
        let both = is_set("AWS_ACCESS_KEY_ID") && is_set("AWS_SECRET_ACCESS_KEY");
        let words = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY go together; one is not set";
        return if both { Ok(words) } else { Err(CloudError::Lasting(words.to_owned())) };
    }
    if is_set("AWS_WEB_IDENTITY_TOKEN_FILE") && is_set("AWS_ROLE_ARN") {
        return Ok("the role in AWS_ROLE_ARN could not be taken with the token in \
                   AWS_WEB_IDENTITY_TOKEN_FILE; check the role's trust policy");
    }
    if is_set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
        || is_set("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    {
        return Ok("the container's role gives no credentials; check the role of the task or pod");
    }
    if is_on("AWS_EC2_METADATA_DISABLED") {
        return Err(CloudError::Lasting(NOT_FOUND.to_owned()));
    }
    Ok(NOT_FOUND)
}

impl ProfileFiles {
    /// What the files say now; a file that can't be read says nothing.
    fn read(&self) -> Option<Profile> {
        let text = |file: &Path| std::fs::read_to_string(file).unwrap_or_default();
        Profile::find(&self.name, &text(&self.credentials), &text(&self.config))
    }

    fn stamps(&self) -> [Option<(u64, SystemTime)>; 2] {
        [&self.credentials, &self.config].map(|file| {
            let metadata = std::fs::metadata(file).ok()?;
            Some((metadata.len(), metadata.modified().ok()?))
        })
    }

    fn is_missing(&self) -> CloudError {
        CloudError::Lasting(format!(
            "the AWS profile `{}` is neither in {} nor in {}; check AWS_PROFILE",
            self.name,
            self.credentials.display(),
            self.config.display()
        ))
    }

    /// The credentials that the files lead to now.
    fn obtain(&self) -> Result<Obtained, CloudError> {
        let name = &self.name;
        let stamps = self.stamps();
        let (credential, expires) = match self.read().ok_or_else(|| self.is_missing())?.source() {
            Source::Keys { key_id, secret_key, token } => {
                (AwsCredential { key_id, secret_key, token }, None)
            }
            Source::Process(command) => run(name, &command)?,
            Source::Elsewhere(way) => {
                return Err(CloudError::Lasting(format!(
                    "the AWS profile `{name}` needs {way}, which only the AWS tools can do; give \
                     another profile the line `credential_process = aws configure \
                     export-credentials --profile {name}` and name that one in AWS_PROFILE"
                )));
            }
            Source::Nowhere => {
                return Err(CloudError::Lasting(format!(
                    "the AWS profile `{name}` has no credentials; run `aws configure`"
                )));
            }
        };
        Ok(Obtained { credential: Arc::new(credential), stamps, expires })
    }
}

impl FoundProfile {
    pub(super) fn region(&self) -> Option<String> {
        self.profile.region()
    }

    pub(super) fn endpoint_url(&self) -> Option<String> {
        self.profile.endpoint_url()
    }

    /// What signs requests, where nothing in `environment` outranks the profile.
    pub(super) fn provider(
        &self,
        environment: &BTreeMap<String, String>,
    ) -> Option<Arc<dyn CredentialProvider<Credential = AwsCredential>>> {
        let is_set = |name: &str| environment.get(name).is_some_and(|value| !value.is_empty());
        let is_outranked = has_keys(environment)
            || is_set("AWS_WEB_IDENTITY_TOKEN_FILE")
            // A default profile that only sets a region leaves room for the machine's role.
            || (!is_set("AWS_PROFILE") && self.profile.source() == Source::Nowhere);
        let last = Mutex::new(None);
        (!is_outranked).then(|| Arc::new(ProfileProvider { files: self.files.clone(), last }) as _)
    }
}

/// Credentials, and until when they hold.
struct Obtained {
    credential: Arc<AwsCredential>,
    stamps: [Option<(u64, SystemTime)>; 2],
    expires: Option<UnixMillis>,
}

/// Signs from a profile.
struct ProfileProvider {
    files: ProfileFiles,
    last: Mutex<Option<Obtained>>,
}

impl fmt::Debug for ProfileProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProfileProvider").field("files", &self.files).finish_non_exhaustive()
    }
}

impl ProfileProvider {
    async fn credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut last = self.last.lock().await;
        let now = SystemClock::start().wall().0;
        if let Some(held) = last.as_ref().filter(|held| held.stamps == self.files.stamps()) {
            let is_due = |expires: UnixMillis| expires.0.saturating_sub(now) < RENEW_BEFORE_MS;
            if !held.expires.is_some_and(is_due) {
                return Ok(Arc::clone(&held.credential));
            }
        }
        let files = self.files.clone();
        let renewed = timeout(PROCESS_WITHIN, tokio::task::spawn_blocking(move || files.obtain()));
        let renewed = match renewed.await {
            Ok(Ok(renewed)) => renewed,
            _ => Err(no_credentials(&self.files.name)),
        };
        match (renewed, last.as_ref()) {
            (Ok(renewed), _) => {
                let credential = Arc::clone(&renewed.credential);
                *last = Some(renewed);
                Ok(credential)
            }
            // They hold for a little longer, and the next request tries again.
            (Err(_), Some(held)) if held.expires.is_some_and(|expires| expires.0 > now) => {
                Ok(Arc::clone(&held.credential))
            }
            (Err(error), _) => Err(refused(error)),
        }
    }
}

impl CredentialProvider for ProfileProvider {
    type Credential = AwsCredential;

    fn get_credential<'a, 'b>(&'a self) -> BoxFuture<'b, object_store::Result<Arc<AwsCredential>>>
    where
        'a: 'b,
        Self: 'b,
    {
        self.credential().boxed()
    }
}

/// Tells in words why there are no credentials, where object_store would show an address.
pub(super) struct Explained<C> {
    inner: Arc<dyn CredentialProvider<Credential = C>>,
    words: &'static str,
    has_worked: AtomicBool,
}

impl<C> fmt::Debug for Explained<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Explained").finish_non_exhaustive()
    }
}

impl<C> Explained<C> {
    /// `inner`, with `words` to say if it gives nothing.
    pub(super) fn new(
        inner: Arc<dyn CredentialProvider<Credential = C>>,
        words: &'static str,
    ) -> Explained<C> {
        Explained { inner, words, has_worked: AtomicBool::new(false) }
    }
}

impl<C: fmt::Debug + Send + Sync + 'static> CredentialProvider for Explained<C> {
    type Credential = C;

    fn get_credential<'a, 'b>(&'a self) -> BoxFuture<'b, object_store::Result<Arc<C>>>
    where
        'a: 'b,
        Self: 'b,
    {
        let ask = async move {
            let given = self.inner.get_credential().await;
            match given {
                Ok(credential) => {
                    self.has_worked.store(true, Ordering::Relaxed);
                    Ok(credential)
                }
                // What gave some before is likely to give some again.
                Err(_) if self.has_worked.load(Ordering::Relaxed) => Err(refused(
                    CloudError::Passing("the credentials can't be renewed at the moment".into()),
                )),
                Err(_) => Err(refused(CloudError::Lasting(self.words.to_owned()))),
            }
        };
        ask.boxed()
    }
}

/// Notes why there are no credentials for whoever judges the request.
fn refused(error: CloudError) -> object_store::Error {
    wire::note(Refusal::Credentials(error.clone()));
    object_store::Error::Generic { store: "credentials", source: Box::new(error) }
}

fn no_credentials(profile: &str) -> CloudError {
    CloudError::Lasting(format!(
        "the credential_process of the AWS profile `{profile}` gave no credentials; run it \
         yourself to see why"
    ))
}

/// What a `credential_process` prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Printed {
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    expiration: Option<String>,
}

/// Runs a profile's `credential_process`. What it says on stderr is not shown, since nobody knows
/// what may be in it.
fn run(profile: &str, command: &str) -> Result<(AwsCredential, Option<UnixMillis>), CloudError> {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", command]).stdin(Stdio::null()).stderr(Stdio::null());
    let output = shell.output().map_err(|_| no_credentials(profile))?;
    if !output.status.success() {
        return Err(no_credentials(profile));
    }
    read_printed(&output.stdout).ok_or_else(|| no_credentials(profile))
}

fn read_printed(json: &[u8]) -> Option<(AwsCredential, Option<UnixMillis>)> {
    let printed: Printed = serde_json::from_slice(json).ok()?;
    let expires = match printed.expiration {
        Some(time) => {
            let time = chrono::DateTime::parse_from_rfc3339(&time).ok()?;
            Some(UnixMillis(u64::try_from(time.timestamp_millis()).unwrap_or(0)))
        }
        None => None,
    };
    let credential = AwsCredential {
        key_id: printed.access_key_id,
        secret_key: printed.secret_access_key,
        token: printed.session_token,
    };
    Some((credential, expires))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::runtime::wait_for;
    use super::super::wire::watched;
    use super::*;

    /// A folder with the files of the AWS tools.
    struct Files(tempfile::TempDir);

    impl Files {
        fn lay(credentials: &str, config: &str) -> Files {
            let files = Files(tempfile::tempdir().unwrap());
            files.write("credentials", credentials);
            files.write("config", config);
            files
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            let mut options = std::fs::OpenOptions::new();
            let file = options.create(true).write(true).truncate(true).open(self.path(name));
            file.unwrap().write_all(text.as_bytes()).unwrap();
        }

        fn environment(&self, more: &[(&str, &str)]) -> BTreeMap<String, String> {
            let mut environment = BTreeMap::new();
            for (name, file) in
                [("AWS_SHARED_CREDENTIALS_FILE", "credentials"), ("AWS_CONFIG_FILE", "config")]
            {
                environment.insert(name.to_owned(), self.path(file).display().to_string());
            }
            let more = more.iter().map(|(name, value)| (name.to_string(), value.to_string()));
            environment.extend(more);
            environment
        }
    }

    type Provider = Arc<dyn CredentialProvider<Credential = AwsCredential>>;

    fn provider(environment: &BTreeMap<String, String>) -> Option<Provider> {
        profile(environment).unwrap().and_then(|profile| profile.provider(environment))
    }

    /// The key's id, or what is said instead.
    fn key_of(provider: &Provider) -> Result<String, String> {
        let provider = Arc::clone(provider);
        let (given, refusal) =
            wait_for(watched(async move { provider.get_credential().await })).unwrap();
        match (given, refusal) {
            (Ok(credential), _) => Ok(credential.key_id.clone()),
            (Err(_), Some(Refusal::Credentials(error))) => Err(error.to_string()),
            (Err(error), refusal) => panic!("{error} {refusal:?}"),
        }
    }

    fn keys(profile: &str, id: &str) -> String {
        format!("[{profile}]\naws_access_key_id = {id}\naws_secret_access_key = s\n")
    }

    #[test]
    fn keys_that_were_renewed_in_the_file_are_taken_up() {
        let files = Files::lay(&keys("default", "first"), "");
        let provider = provider(&files.environment(&[])).unwrap();
        assert_eq!(key_of(&provider).as_deref(), Ok("first"));
        files.write("credentials", &keys("default", "the-second"));
        assert_eq!(key_of(&provider).as_deref(), Ok("the-second"));
    }

    #[test]
    fn a_process_is_run_again_when_its_credentials_are_about_to_expire() {
        let files = Files::lay("", "");
        let count = files.path("count").display().to_string();
        let printing = |expiration: &str| {
            format!(
                "[profile p]\ncredential_process = echo x >> '{count}'; echo \
                 '{{\"Version\":1,\"AccessKeyId\":\"k\",\"SecretAccessKey\":\"s\",\
                 \"Expiration\":\"{expiration}\"}}'\n"
            )
        };
        let runs = || std::fs::read_to_string(&count).unwrap().lines().count();
        files.write("config", &printing("2999-01-01T00:00:00Z"));
        let provider = provider(&files.environment(&[("AWS_PROFILE", "p")])).unwrap();
        for _ in 0..3 {
            assert_eq!(key_of(&provider).as_deref(), Ok("k"));
        }
        assert_eq!(runs(), 1);
        files.write("config", &printing("2001-01-01T00:00:00+00:00"));
        for _ in 0..2 {
            assert_eq!(key_of(&provider).as_deref(), Ok("k"));
        }
        assert_eq!(runs(), 3);
    }

    #[test]
    fn credentials_that_cant_be_renewed_are_used_to_their_end() {
        let soon = SystemClock::start().wall().0 + 60_000;
        let soon = chrono::DateTime::from_timestamp_millis(soon as i64).unwrap().to_rfc3339();
        let files = Files::lay("", "");
        let once = files.path("once").display().to_string();
        files.write(
            "config",
            &format!(
                "[profile p]\ncredential_process = mkdir '{once}' && echo \
                 '{{\"Version\":1,\"AccessKeyId\":\"k\",\"SecretAccessKey\":\"s\",\
                 \"Expiration\":\"{soon}\"}}'\n"
            ),
        );
        let environment = files.environment(&[("AWS_PROFILE", "p")]);
        let first = provider(&environment).unwrap();
        for _ in 0..2 {
            assert_eq!(key_of(&first).as_deref(), Ok("k"));
        }
        let refused = key_of(&provider(&environment).unwrap()).unwrap_err();
        assert!(refused.contains("credential_process of the AWS profile `p`"), "{refused}");
    }

    #[test]
    fn variables_outrank_a_profile_and_a_profile_the_machine() {
        let files = Files::lay(&keys("default", "a"), "[profile bare]\nregion = eu-west-1\n");
        let is_used = |more: &[(&str, &str)]| provider(&files.environment(more)).is_some();
        assert!(is_used(&[]));
        assert!(is_used(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://x")]));
        assert!(!is_used(&[("AWS_ACCESS_KEY_ID", "x"), ("AWS_SECRET_ACCESS_KEY", "y")]));
        assert!(is_used(&[("AWS_PROFILE", "bare")]), "it says that it has none");
        let missing = profile(&files.environment(&[("AWS_PROFILE", "gone")]));
        assert!(missing.err().unwrap().to_string().contains("the AWS profile `gone`"));
        let bare = Files::lay("", "[default]\nregion = eu-west-1\n");
        assert!(provider(&bare.environment(&[])).is_none(), "the machine's role is left");
    }
}

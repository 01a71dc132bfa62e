//! What a request came to, told apart by the remedy.
//!
//! Its sentences are made from a status and an error code alone; a body, which may repeat a key,
//! and an address, which may be signed, are never shown.

use object_store::client::HttpErrorKind;

use crate::domain::Service;

/// Why object storage did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloudError {
    /// No such object.
    #[error("there is no such object")]
    NotFound,
    /// The name is taken; the object there is untouched.
    #[error("the object exists already")]
    Taken,
    /// Other bytes stand there than were seen, or none.
    #[error("the object was changed by another writer")]
    Changed,
    /// The same request may succeed in a moment. After a write the outcome is unknown.
    #[error("{0}")]
    Passing(String),
    /// Somebody has to act first; whose move it is, in words.
    #[error("{0}")]
    Lasting(String),
}

/// How a request was turned down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A status that is no success, with the error code of its body, if it has one.
    Status { status: u16, code: String },
    /// No answer.
    Transport(HttpErrorKind),
    /// There was nothing to sign the request with.
    Credentials(CloudError),
}

/// What was asked for, where a status means different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// To read or list.
    Read,
    /// To write a name that is not taken.
    Create,
    /// To write over, or to read, one version.
    Version,
    /// To remove.
    Delete,
}

/// The remedy of `refusal` by the bucket or container `bucket` of `service`.
pub(super) fn judge(service: Service, bucket: &str, asked: Asked, refusal: &Refusal) -> CloudError {
    let (status, code) = match refusal {
        Refusal::Credentials(error) => return error.clone(),
        Refusal::Transport(kind) => return CloudError::Passing(no_answer(*kind).to_owned()),
        Refusal::Status { status, code } => (*status, code.as_str()),
    };
    let lasting = |words: &str| CloudError::Lasting(words.to_owned());
    match (status, code) {
        (_, "NoSuchBucket" | "ContainerNotFound") => CloudError::Lasting(format!(
            "there is no bucket `{bucket}`; check the name, the account and --endpoint-url"
        )),
        (_, "ExpiredToken" | "TokenRefreshRequired" | "InvalidToken") => {
            lasting("the credentials have expired; sign in again, then run the same command")
        }
        (_, "RequestTimeTooSkewed") => lasting("this machine's clock is wrong; set it"),
        (_, "InvalidAccessKeyId") => {
            lasting("the access key is not known there; check which credentials are in use")
        }
        (_, "SignatureDoesNotMatch") => {
            lasting("the secret key does not match the access key; check the credentials")
        }
        (301 | 307, _) | (400, "AuthorizationHeaderMalformed") => CloudError::Lasting(format!(
            "the bucket `{bucket}` is in another region; name it with --region"
        )),
        (412 | 304, _) if asked == Asked::Create => CloudError::Taken,
        (409, _) if asked == Asked::Create && service != Service::S3 => CloudError::Taken,
        (412 | 304, _) => CloudError::Changed,
        // S3 says so, not 412, where the object to write over is gone.
        (404, _) if asked == Asked::Version => CloudError::Changed,
        (404, _) => CloudError::NotFound,
        (401, _) => lasting("the credentials are not accepted; sign in again"),
        (403, _) => CloudError::Lasting(format!(
            "the credentials may not do that in the bucket `{bucket}` (403{}); allow it, or use \
             others",
            in_words(code)
        )),
        (501, _) => CloudError::Lasting(format!(
            "the server can't do that (501{}); use one that knows conditional requests",
            in_words(code)
        )),
        (408 | 409 | 429, _) | (400, "RequestTimeout") | (500.., _) => CloudError::Passing(
            format!("the service can't do it at the moment ({status}{})", in_words(code)),
        ),
        _ => CloudError::Lasting(format!("the service refuses it ({status}{})", in_words(code))),
    }
}

fn no_answer(kind: HttpErrorKind) -> &'static str {
    match kind {
        HttpErrorKind::Connect => "no connection to the service; check the network and the address",
        HttpErrorKind::Timeout => "the service does not answer",
        _ => "the connection to the service broke off",
    }
}

fn in_words(code: &str) -> String {
    if code.is_empty() { String::new() } else { format!(", {code}") }
}

/// The code of an error's body, `<Code>AccessDenied</Code>`; empty if there is none. Codes are
/// single words, so nothing else of a body can be taken for one.
pub(super) fn code_in(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    let is_word = |code: &&str| code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphabetic());
    code.map(|(code, _)| code).filter(is_word).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(asked: Asked, status: u16, code: &str) -> CloudError {
        let refusal = Refusal::Status { status, code: code.to_owned() };
        judge(Service::S3, "box", asked, &refusal)
    }

    #[test]
    fn what_passes_is_told_from_what_somebody_has_to_mend() {
        for (status, code) in [(503, "SlowDown"), (500, ""), (429, ""), (408, ""), (599, "")] {
            let error = judged(Asked::Create, status, code);
            assert!(matches!(error, CloudError::Passing(_)), "{status} {error:?}");
        }
        for (status, code) in [
            (403, "AccessDenied"),
            (403, "RequestTimeTooSkewed"),
            (404, "NoSuchBucket"),
            (400, "ExpiredToken"),
            (301, "PermanentRedirect"),
            (501, "NotImplemented"),
            (401, ""),
        ] {
            let error = judged(Asked::Create, status, code);
            assert!(matches!(error, CloudError::Lasting(_)), "{status} {error:?}");
        }
    }

    #[test]
    fn a_conflict_passes_on_s3_and_means_taken_elsewhere() {
        let conflict = judged(Asked::Create, 409, "ConditionalRequestConflict");
        assert!(matches!(conflict, CloudError::Passing(_)));
        let refusal = Refusal::Status { status: 409, code: "BlobAlreadyExists".into() };
        assert_eq!(judge(Service::Azure, "box", Asked::Create, &refusal), CloudError::Taken);
    }

    #[test]
    fn a_failed_condition_means_what_was_asked() {
        assert_eq!(judged(Asked::Create, 412, "PreconditionFailed"), CloudError::Taken);
        assert_eq!(judged(Asked::Version, 412, "PreconditionFailed"), CloudError::Changed);
        assert_eq!(judged(Asked::Version, 404, "NoSuchKey"), CloudError::Changed);
        assert_eq!(judged(Asked::Read, 404, "NoSuchKey"), CloudError::NotFound);
    }

    #[test]
    fn nothing_of_a_body_but_its_code_is_kept() {
        let body = b"<Error><Code>InvalidAccessKeyId</Code><AWSAccessKeyId>AKIA1</AWSAccessKeyId>";
        assert_eq!(code_in(body), "InvalidAccessKeyId");
        for body in ["<Code>AKIA 1</Code>", "<Code>", "{}", "<Code>a\u{1b}</Code>"] {
            assert_eq!(code_in(body.as_bytes()), "", "{body}");
        }
    }
}

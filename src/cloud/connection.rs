//! Settings and variables to a client of the service that a URL names.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use super::credentials::{self, Explained};
use super::error::CloudError;
use super::wire::Watch;
use crate::domain::spec::CloudSpec;
use crate::domain::{ObjectUrl, Service};

const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Three tries within few seconds: what lasts longer is known to whoever waits.
fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(1),
            base: 2.0,
        },
        max_retries: 2,
        retry_timeout: Duration::from_secs(4),
    }
}

/// Whole requests are timed by their size, so the client times connections only.
fn options() -> ClientOptions {
    ClientOptions::new().with_connect_timeout(CONNECT_WITHIN).with_timeout_disabled()
}

/// The service's client for the bucket of `url`. Sends nothing.
pub(super) fn connect(
    url: &ObjectUrl,
    spec: &CloudSpec,
) -> Result<Arc<dyn ObjectStore>, CloudError> {
    match url.service() {
        Service::S3 => s3(url, spec),
        Service::Gcs => gcs(url, spec),
        Service::Azure => azure(url, spec),
    }
}

fn s3(url: &ObjectUrl, spec: &CloudSpec) -> Result<Arc<dyn ObjectStore>, CloudError> {
    let base = AmazonS3Builder::new().with_client_options(options());
    let mut builder = with_variables(&spec.environment, "AWS_", base, AmazonS3Builder::with_config);
    let profile = credentials::profile(&spec.environment)?;
    if let Some(endpoint) = &spec.endpoint_url {
        builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
    }
    let given = |builder: &AmazonS3Builder, key| builder.get_config_value(&key);
    let mut endpoint = given(&builder, AmazonS3ConfigKey::S3Endpoint)
        .or_else(|| given(&builder, AmazonS3ConfigKey::Endpoint));
    if let (None, Some(of_profile)) = (&endpoint, profile.as_ref().and_then(|it| it.endpoint_url()))
    {
        builder = builder.with_endpoint(&of_profile);
        endpoint = Some(of_profile);
    }
    if endpoint.as_deref().is_some_and(is_plain_http) {
        builder = builder.with_allow_http(true);
    }
    if !spec.environment.contains_key("AWS_VIRTUAL_HOSTED_STYLE_REQUEST") {
        // The certificate of the service covers no dots before its own name.
        let is_in_host = endpoint.is_none() && !url.bucket().contains('.');
        builder = builder.with_virtual_hosted_style_request(is_in_host);
    }
    if let Some(region) = &spec.region {
        builder = builder.with_region(region);
    } else if given(&builder, AmazonS3ConfigKey::Region).is_none()
        && let Some(region) = profile.as_ref().and_then(|profile| profile.region())
    {
        builder = builder.with_region(region);
    }
    let builder = builder
        .with_bucket_name(url.bucket())
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        // Servers that only resemble S3 often lack the other way to delete.
        .with_disable_bulk_delete(true)
        .with_retry(retry())
        .with_http_connector(Watch);
    let unusable = |_| {
        let words =
            "the settings for S3 can't be used; check --endpoint-url and the AWS_ variables";
        CloudError::Lasting(words.to_owned())
    };
    let of_profile = profile.and_then(|profile| profile.provider(&spec.environment));
    let provider = match of_profile {
        Some(provider) => provider,
        None => {
            let words = credentials::check(&spec.environment)?;
            let chain = builder.clone().build().map_err(unusable)?;
            Arc::new(Explained::new(Arc::clone(chain.credentials()), words))
        }
    };
    Ok(Arc::new(builder.with_credentials(provider).build().map_err(unusable)?))
}

fn gcs(url: &ObjectUrl, spec: &CloudSpec) -> Result<Arc<dyn ObjectStore>, CloudError> {
    let is_plain = spec.endpoint_url.as_deref().is_some_and(is_plain_http);
    let base =
        GoogleCloudStorageBuilder::new().with_client_options(options().with_allow_http(is_plain));
    let with_config = GoogleCloudStorageBuilder::with_config;
    let mut builder = with_variables(&spec.environment, "GOOGLE_", base, with_config);
    if let Some(endpoint) = &spec.endpoint_url {
        builder = builder.with_config(GoogleConfigKey::BaseUrl, endpoint);
    }
    let builder =
        builder.with_bucket_name(url.bucket()).with_retry(retry()).with_http_connector(Watch);
    let unusable = |_| {
        let words = "the credentials for Google Cloud can't be used; check \
                     GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`";
        CloudError::Lasting(words.to_owned())
    };
    let chain = builder.clone().build().map_err(unusable)?;
    let words = "no credentials for Google Cloud were found; set GOOGLE_APPLICATION_CREDENTIALS, \
                 or run `gcloud auth application-default login`";
    let provider = Arc::new(Explained::new(Arc::clone(chain.credentials()), words));
    Ok(Arc::new(builder.with_credentials(provider).build().map_err(unusable)?))
}

fn azure(url: &ObjectUrl, spec: &CloudSpec) -> Result<Arc<dyn ObjectStore>, CloudError> {
    let is_plain = spec.endpoint_url.as_deref().is_some_and(is_plain_http);
    let base =
        MicrosoftAzureBuilder::new().with_client_options(options().with_allow_http(is_plain));
    let with_config = MicrosoftAzureBuilder::with_config;
    let mut builder = with_variables(&spec.environment, "AZURE_", base, with_config);
    if let Some(endpoint) = &spec.endpoint_url {
        builder = builder.with_endpoint(endpoint.clone());
    }
    if let Some(account) = url.account() {
        builder = builder.with_account(account);
    }
    let builder =
        builder.with_container_name(url.bucket()).with_retry(retry()).with_http_connector(Watch);
    let unusable = |_| {
        let words = "the settings for Azure can't be used; name the account in \
                     AZURE_STORAGE_ACCOUNT_NAME and check the other AZURE_ variables";
        CloudError::Lasting(words.to_owned())
    };
    let chain = builder.clone().build().map_err(unusable)?;
    let words = "no credentials for Azure were found; set AZURE_STORAGE_ACCOUNT_KEY, or the \
                 AZURE_ variables of a service principal or an identity";
    let provider = Arc::new(Explained::new(Arc::clone(chain.credentials()), words));
    Ok(Arc::new(builder.with_credentials(provider).build().map_err(unusable)?))
}

/// `builder` with each variable that begins with `prefix` and is one of its keys.
fn with_variables<B, K: std::str::FromStr>(
    environment: &BTreeMap<String, String>,
    prefix: &str,
    builder: B,
    with_config: impl Fn(B, K, String) -> B,
) -> B {
    environment.iter().filter(|(name, value)| name.starts_with(prefix) && !value.is_empty()).fold(
        builder,
        |builder, (name, value)| match name.to_ascii_lowercase().parse() {
            Ok(key) => with_config(builder, key, value.clone()),
            Err(_) => builder,
        },
    )
}

fn is_plain_http(endpoint: &str) -> bool {
    endpoint.starts_with("http://")
}

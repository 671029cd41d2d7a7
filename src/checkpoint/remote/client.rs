//! An object store, as far as a state directory needs it: few calls, each of which blocks.

use crate::checkpoint::error::CheckpointError;
use crate::secret::Secret;
use crate::tls;
use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path as Key;
use object_store::{
    BackoffConfig, ClientConfigKey, Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload, RetryConfig,
    WriteMultipart,
};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// How the client is set where nothing else says so. The time is that of a whole request: so long for a part of a large file.
const DEFAULTS: [(ClientConfigKey, &str); 2] =
    [(ClientConfigKey::Timeout, "60s"), (ClientConfigKey::ConnectTimeout, "5s")];

/// So long a call is tried again before it fails. The caller tries again too, where that has a point, and says so.
const CALL_WAIT: Duration = Duration::from_secs(15);

/// A file that is larger goes in parts of this size: the least that S3 takes is 5 MiB.
const PART_BYTES: usize = 8 << 20;

/// Small objects that are asked for at a time.
const GETS: usize = 16;

/// Parts on their way at a time.
const PARTS: usize = 2;

/// Why a store is of no use.
pub(super) const NO_CONDITIONS: &str =
    "it cannot put an object only where there is none (If-None-Match), which is what keeps two runs apart";

/// Where the copy of a state directory is kept.
#[derive(Clone, Debug)]
pub struct RemoteOptions {
    /// `s3://bucket/prefix`.
    pub url: String,
    /// Settings of the client, by the names that `object_store` has for them, such as `endpoint`. What is not here comes from
    /// the environment (`AWS_…`).
    pub options: BTreeMap<String, Secret>,
}

impl RemoteOptions {
    /// A client for it. Nothing is asked yet.
    ///
    /// # Errors
    /// If the address or a setting is no such thing.
    pub(super) fn client(&self) -> Result<Client, CheckpointError> {
        tls::choose_provider();
        let wrong = |reason: String| CheckpointError::RemoteSettings { url: self.url.clone(), reason };
        let url = url::Url::parse(&self.url).map_err(|error| wrong(error.to_string()))?;
        if url.scheme() != "s3" || url.host_str().is_none() {
            return Err(wrong("it should be s3://BUCKET/PREFIX".into()));
        }
        let prefix = Key::from_url_path(url.path()).map_err(|error| wrong(error.to_string()))?;
        let mut settings: Vec<(AmazonS3ConfigKey, String)> =
            DEFAULTS.map(|(key, value)| (AmazonS3ConfigKey::Client(key), value.to_owned())).into();
        for (name, value) in std::env::vars_os() {
            if let (Some(name), Some(value)) = (name.to_str().filter(|name| name.starts_with("AWS_")), value.to_str())
                && let Ok(key) = name.to_ascii_lowercase().parse()
            {
                settings.push((key, value.to_owned()));
            }
        }
        for (name, value) in &self.options {
            let key: AmazonS3ConfigKey =
                name.parse().map_err(|_| wrong(format!("state.remote_options has no setting {name:?}")))?;
            let value = value.reveal().map_err(|error| wrong(error.to_string()))?;
            if matches!(key, AmazonS3ConfigKey::Endpoint) {
                // The environment's would come before it.
                settings.push((AmazonS3ConfigKey::S3Endpoint, value.clone()));
            }
            settings.push((key, value));
        }
        let of = |wanted: AmazonS3ConfigKey| settings.iter().rfind(|(key, _)| *key == wanted);
        let endpoint = of(AmazonS3ConfigKey::S3Endpoint).or_else(|| of(AmazonS3ConfigKey::Endpoint));
        if endpoint.is_some_and(|(_, endpoint)| endpoint.starts_with("http://")) {
            // Who writes that wants no TLS.
            settings.push((AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp), "true".to_owned()));
        }
        let retry = RetryConfig { backoff: BackoffConfig::default(), max_retries: 5, retry_timeout: CALL_WAIT };
        let builder = AmazonS3Builder::new().with_bucket_name(url.host_str().unwrap_or_default()).with_retry(retry);
        let builder = settings.into_iter().fold(builder, |builder, (key, value)| builder.with_config(key, value));
        let store = builder.build().map_err(|error| wrong(reason(&error)))?;
        Client::over(Arc::new(store), prefix, &self.url)
    }
}

/// Objects below a prefix.
#[derive(Debug)]
pub(in crate::checkpoint) struct Client {
    store: Arc<dyn ObjectStore>,
    prefix: Key,
    url: String,
    runtime: Runtime,
}

impl Client {
    pub(in crate::checkpoint) fn over(
        store: Arc<dyn ObjectStore>,
        prefix: Key,
        url: &str,
    ) -> Result<Client, CheckpointError> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("object-store").enable_all().build();
        let runtime = runtime.map_err(CheckpointError::Thread)?;
        Ok(Client { store, prefix, url: url.trim_end_matches('/').to_owned(), runtime })
    }

    /// `s3://bucket/prefix`.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// How messages name an object.
    pub(super) fn name(&self, key: &str) -> String {
        format!("{}/{key}", self.url)
    }

    fn key(&self, key: &str) -> Key {
        Key::from_iter(self.prefix.parts().chain(Key::from(key).parts()))
    }

    /// Names no more than the kind of the object: what is tried again is told once.
    fn failed(&self, action: &'static str, key: &str) -> impl Fn(Error) -> CheckpointError {
        let object = self.name(key.split('/').next().unwrap_or(key));
        move |error| CheckpointError::Remote { action, object: object.clone(), reason: reason(&error) }
    }

    /// Puts an object of which there is none of that name; `false` if there is one. An answer that was lost on the way may make
    /// that one ours.
    pub(super) fn put_new(&self, key: &str, bytes: &[u8]) -> Result<bool, CheckpointError> {
        let (path, payload) = (self.key(key), PutPayload::from(bytes.to_vec()));
        match self.runtime.block_on(self.store.put_opts(&path, payload, PutMode::Create.into())) {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(self.failed("write", key)(error)),
        }
    }

    /// Puts an object whose name says what is in it.
    pub(super) fn put(&self, key: &str, bytes: Vec<u8>) -> Result<(), CheckpointError> {
        let put = async { self.store.put(&self.key(key), PutPayload::from(bytes)).await };
        self.runtime.block_on(put).map(drop).map_err(self.failed("write", key))
    }

    /// A whole object; `None` if there is none.
    pub(super) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, CheckpointError> {
        Ok(self.get_all(&[key.to_owned()])?.pop().flatten())
    }

    /// Many small objects, in the order of their keys; `None` for those that are not there.
    pub(super) fn get_all(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, CheckpointError> {
        let get = |key: &String| {
            let path = self.key(key);
            async move {
                match self.store.get(&path).await {
                    Ok(found) => Ok(Some(found.bytes().await?.to_vec())),
                    Err(Error::NotFound { .. }) => Ok(None),
                    Err(error) => Err(error),
                }
            }
        };
        let got = futures_util::stream::iter(keys.iter().map(get)).buffered(GETS).try_collect();
        self.runtime.block_on(got).map_err(self.failed("read", keys.first().map_or("", String::as_str)))
    }

    /// The keys that begin with `prefix` and a slash, sorted.
    pub(super) fn list(&self, prefix: &str) -> Result<Vec<String>, CheckpointError> {
        self.list_after(prefix, prefix)
    }

    /// Those of them that come after the key `after`.
    pub(super) fn list_after(&self, prefix: &str, after: &str) -> Result<Vec<String>, CheckpointError> {
        let within = self.key(prefix);
        let list = self.store.list_with_offset(Some(&within), &self.key(after)).try_collect::<Vec<_>>();
        let found = self.runtime.block_on(list).map_err(self.failed("list", prefix))?;
        let name = |key: Key| Some(format!("{prefix}/{}", key.prefix_match(&within)?.next()?.as_ref()));
        let mut keys: Vec<String> = found.into_iter().filter_map(|object| name(object.location)).collect();
        keys.sort_unstable();
        Ok(keys)
    }

    /// Deletes objects, those that are not there any more too.
    pub(super) fn delete(&self, keys: &[String]) -> Result<(), CheckpointError> {
        let Some(first) = keys.first() else { return Ok(()) };
        let paths: Vec<_> = keys.iter().map(|key| Ok(self.key(key))).collect();
        let deleted = self.store.delete_stream(futures_util::stream::iter(paths).boxed());
        let deleted = deleted.filter(|deleted| {
            let failed = !matches!(deleted, Ok(_) | Err(Error::NotFound { .. }));
            async move { failed }
        });
        let failure = self.runtime.block_on(async { Box::pin(deleted).next().await });
        match failure {
            Some(Err(error)) => Err(self.failed("delete", first)(error)),
            _ => Ok(()),
        }
    }

    /// Puts a file under a name that says what is in it.
    pub(in crate::checkpoint) fn upload(&self, key: &str, path: &Path) -> Result<(), CheckpointError> {
        let read = CheckpointError::io("read", path);
        let (mut file, mut part) = match File::open(path).and_then(|mut file| Ok((next_part(&mut file)?, file))) {
            Ok((part, file)) => (file, part),
            Err(error) => return Err(read(error)),
        };
        if part.len() < PART_BYTES {
            return self.put(key, part);
        }
        let failed = self.failed("write", key);
        self.runtime.block_on(async {
            let upload = self.store.put_multipart(&self.key(key)).await.map_err(&failed)?;
            let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
            let mut stopped = None;
            while !part.is_empty() && stopped.is_none() {
                upload.put(part.into());
                stopped = upload.wait_for_capacity(PARTS).await.map_err(&failed).err();
                match next_part(&mut file) {
                    Ok(next) => part = next,
                    Err(error) => {
                        stopped = Some(CheckpointError::io("read", path)(error));
                        break;
                    }
                }
            }
            match stopped {
                None => upload.finish().await.map(drop).map_err(&failed),
                Some(error) => {
                    // What can't be taken back the store forgets by its own rules.
                    let _ = upload.abort().await;
                    Err(error)
                }
            }
        })
    }

    /// Hands over an object of `bytes` bytes in pieces, each of which is a request of its own; `false` if there is none of
    /// that length.
    pub(in crate::checkpoint) fn download(
        &self,
        key: &str,
        bytes: u64,
        mut piece: impl FnMut(&[u8]) -> Result<(), CheckpointError>,
    ) -> Result<bool, CheckpointError> {
        let (path, failed) = (self.key(key), self.failed("read", key));
        match self.runtime.block_on(async { self.store.head(&path).await }) {
            Ok(found) if found.size == bytes => {}
            Ok(_) | Err(Error::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(failed(error)),
        }
        for from in (0..bytes).step_by(PART_BYTES) {
            let range = from..bytes.min(from + PART_BYTES as u64);
            match self.runtime.block_on(async { self.store.get_range(&path, range).await }) {
                Ok(bytes) => piece(&bytes)?,
                Err(Error::NotFound { .. }) => return Ok(false),
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(true)
    }
}

/// The next bytes of a file; empty at its end.
fn next_part(file: &mut File) -> std::io::Result<Vec<u8>> {
    let mut part = Vec::new();
    file.take(PART_BYTES as u64).read_to_end(&mut part)?;
    Ok(part)
}

/// What a store says, in one line.
fn reason(error: &Error) -> String {
    match error {
        Error::NotImplemented { .. } | Error::NotSupported { .. } => NO_CONDITIONS.into(),
        other => innermost(other),
    }
}

/// The innermost cause says what has happened; those around it, what was tried.
fn innermost(error: &Error) -> String {
    const LONGEST: usize = 300;
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let text = cause.to_string();
    // What a server says stands in an XML document.
    let said = text.split_once("<Message>").and_then(|(_, rest)| Some(rest.split_once("</Message>")?.0));
    let line = said.unwrap_or(&text).split_whitespace().collect::<Vec<_>>().join(" ");
    line.trim_end_matches('.').chars().take(LONGEST).collect()
}

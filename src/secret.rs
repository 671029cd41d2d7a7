//! Text that must not show: passwords, and addresses that hold them.

use std::fmt;
use std::path::PathBuf;

/// How a configuration says that a secret is the content of a file.
const FILE_PREFIX: &str = "file:";

/// A secret, or the file that holds it. Never printed, logged or serialised as it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// The file that a secret is in can't be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the secret {}: {error}", path.display())]
pub struct SecretError {
    /// The file.
    pub path: PathBuf,
    /// What the system says.
    pub error: std::io::Error,
}

impl Secret {
    /// A secret as a configuration gives it: itself, or `file:PATH`.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The secret itself. For a file, its content without the line end.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn reveal(&self) -> Result<String, SecretError> {
        let Some(path) = self.0.strip_prefix(FILE_PREFIX) else { return Ok(self.0.clone()) };
        let text = std::fs::read_to_string(path).map_err(|error| SecretError { path: path.into(), error })?;
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// What may be shown: the name of the file, an address without its password, or nothing.
    pub fn redacted(&self) -> String {
        if self.0.starts_with(FILE_PREFIX) {
            return self.0.clone();
        }
        redacted_address(&self.0).unwrap_or_else(|| "***".to_owned())
    }
}

/// `scheme://user:password@host/…` without the password and the options, in which there may be others.
fn redacted_address(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    // A password with an unescaped delimiter: where it ends, nobody knows.
    if path.contains('@') {
        return Some(format!("{scheme}://***"));
    }
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let authority = match authority.rsplit_once('@') {
        None => authority.to_owned(),
        Some((user, host)) => format!("{}:***@{host}", user.split(':').next().unwrap_or_default()),
    };
    Some(format!("{scheme}://{authority}{path}"))
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

/// As it may be shown.
impl serde::Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.redacted())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn passwords_do_not_show() {
        let shown = |text: &str| format!("{:?}", Secret::new(text));
        assert_eq!(shown("hunter2"), "***");
        assert_eq!(shown("mysql://shop:hunter2@db:3306/flink"), "mysql://shop:***@db:3306/flink");
        assert_eq!(shown("mysql://shop:hun@ter2@db/flink"), "mysql://shop:***@db/flink");
        assert_eq!(shown("mongodb://a,b/db?authSource=x&tlsCertificateKeyFilePassword=y"), "mongodb://a,b/db");
        assert_eq!(shown("redis://:hun/ter2@db/0"), "redis://***");
        assert_eq!(shown("redis://:hun?ter2@db/0"), "redis://***");
        assert_eq!(shown("file:/run/secrets/db"), "file:/run/secrets/db");
        assert_eq!(serde_json::to_string(&Secret::new("hunter2")).unwrap(), "\"***\"");
    }

    #[test]
    fn a_file_holds_it_without_its_line_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hunter2\r\n").unwrap();
        assert_eq!(Secret::new(format!("file:{}", file.path().display())).reveal().unwrap(), "hunter2");
        let message = Secret::new("file:/nowhere").reveal().unwrap_err().to_string();
        assert_eq!(message, "cannot read the secret /nowhere: No such file or directory (os error 2)");
        assert_eq!(Secret::new("plain").reveal().unwrap(), "plain");
    }
}

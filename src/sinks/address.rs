//! Addresses of databases: `scheme://user:password@host:port/name?option=value`.
//!
//! They are taken apart here and not by the databases' clients, whose messages may hold pieces of what they are about.

use crate::secret::{Secret, SecretError};
use percent_encoding::percent_decode_str;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use url::{Host, Url};

/// An address, taken apart. Nothing in it is empty.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) scheme: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: Option<String>,
    pub(super) password: Option<Password>,
    /// What follows the host, without the slash before it.
    pub(super) path: Option<String>,
    pub(super) options: Vec<(String, String)>,
}

/// A password.
#[derive(Clone)]
pub(super) struct Password(String);

impl Password {
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What an address of one kind looks like.
pub(super) struct Form {
    pub(super) schemes: &'static [&'static str],
    pub(super) example: &'static str,
    pub(super) port: u16,
    pub(super) options: &'static [&'static str],
}

/// Why an address can't be used. Says nothing of what it holds, but for the names of files.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// It is in a file that can't be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// It is no address of that kind.
    #[error(
        "it is not of the form {example}; in user and password, write any of : / ? # [ ] @ % as %3A %2F %3F %23 %5B %5D %40 \
         %25"
    )]
    Form {
        /// What it should look like.
        example: &'static str,
    },
    /// It names a file that can't be read.
    #[error("cannot read the file of its option {name}, {}: {reason}", .path.display())]
    File {
        /// The option.
        name: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It has an option that is not known.
    #[error("it has an option that is not known; known are: {}", .known.join(", "))]
    Option {
        /// Those that are.
        known: &'static [&'static str],
    },
    /// An option has a value that it can't have.
    #[error("its option {name} can be: {}", .known.join(", "))]
    Value {
        /// The option.
        name: &'static str,
        /// Its values.
        known: &'static [&'static str],
    },
}

impl Address {
    pub(super) fn parse(secret: &Secret, form: &Form) -> Result<Address, AddressError> {
        let wrong = || AddressError::Form { example: form.example };
        let url = Url::parse(&secret.reveal()?).map_err(|_| wrong())?;
        if !form.schemes.contains(&url.scheme()) || url.fragment().is_some() {
            return Err(wrong());
        }
        let host = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() => name.to_owned(),
            Some(Host::Ipv4(ip)) => ip.to_string(),
            Some(Host::Ipv6(ip)) => ip.to_string(),
            _ => return Err(wrong()),
        };
        let decode = |text: &str| percent_decode_str(text).decode_utf8().map(String::from).map_err(|_| wrong());
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        let options: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        if options.iter().any(|(name, _)| !form.options.contains(&name.as_str())) {
            return Err(AddressError::Option { known: form.options });
        }
        Ok(Address {
            scheme: url.scheme().to_owned(),
            host,
            port: url.port().unwrap_or(form.port),
            user: given(decode(url.username())?),
            password: url.password().map(decode).transpose()?.and_then(given).map(Password),
            path: given(decode(url.path().trim_start_matches('/'))?),
            options,
        })
    }

    /// `host:port`.
    pub(super) fn server(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Whether nobody between this machine and the host can listen.
    pub(super) fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
    }

    /// An option's value; the last, if it is given several times.
    pub(super) fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().rev().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const FORM: Form = Form {
        schemes: &["mysql"],
        example: "mysql://user:password@host:3306/database",
        port: 3306,
        options: &["ssl-mode"],
    };

    fn parse(text: &str) -> Result<Address, AddressError> {
        Address::parse(&Secret::new(text), &FORM)
    }

    #[test]
    fn addresses_are_taken_apart() {
        let address = parse("mysql://shop:h%40nter2@db:3307/flink%2Drl?ssl-mode=required").unwrap();
        assert_eq!((address.server(), address.user.as_deref()), ("db:3307".into(), Some("shop")));
        assert_eq!(address.password.as_ref().unwrap().reveal(), "h@nter2");
        assert_eq!((address.path.as_deref(), address.option("ssl-mode")), (Some("flink-rl"), Some("required")));
        assert!(!format!("{address:?}").contains("nter2"));
        let address = parse("mysql://[::1]").unwrap();
        assert_eq!((address.server(), address.is_loopback()), ("[::1]:3306".into(), true));
        assert!(address.user.is_none() && address.password.is_none() && address.path.is_none());
        assert!(
            parse("mysql://127.0.0.1").unwrap().is_loopback() && parse("mysql://localhost/x").unwrap().is_loopback()
        );
        assert!(!parse("mysql://10.0.0.1").unwrap().is_loopback());
    }

    #[test]
    fn a_refusal_does_not_show_the_password() {
        for text in
            ["hunter2", "redis://x:hunter2@db", "mysql://shop:hunter2/@db:x", "mysql://s:hunter2@db/x?ssl=hunter2"]
        {
            let error = parse(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
        assert_eq!(
            parse("mysql:").unwrap_err().to_string(),
            "it is not of the form mysql://user:password@host:3306/database; in user and password, write any of : / ? # [ ] \
             @ % as %3A %2F %3F %23 %5B %5D %40 %25"
        );
        assert_eq!(
            parse("mysql://db?tls=1").unwrap_err().to_string(),
            "it has an option that is not known; known are: ssl-mode"
        );
    }
}

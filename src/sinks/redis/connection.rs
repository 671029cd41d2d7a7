//! The way to the server: connecting, and what its errors mean.

use super::RedisOptions;
use super::error::RedisError;
use super::schema::Keys;
use crate::sinks::address::{Address, AddressError, Form};
use crate::sinks::disk;
use crate::sinks::runtime::{ClientRuntime, Halt, TimeLimits, network_reason};
use crate::sinks::stop::Stop;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, IntoConnectionInfo, Pipeline, RedisConnectionInfo,
    ServerErrorKind, TlsCertificates, Value, cmd,
};
use std::error::Error;
use std::fs;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the address looks like.
const FORM: Form = Form {
    schemes: &["redis", "rediss"],
    example: "redis://user:password@host:6379/0, or rediss:// for TLS",
    port: 6379,
    options: &["ca"],
};

/// A connection that has been idle for longer is asked whether it is still there before it is used.
const TRUSTED: Duration = Duration::from_secs(20);

/// A server, connected to when need be.
pub(super) struct Server {
    // Before the runtime that it lives on.
    connection: Option<MultiplexedConnection>,
    used: Instant,
    runtime: ClientRuntime,
    client: Client,
    limits: TimeLimits,
    place: String,
    user: String,
    pattern: String,
}

/// The scripts, by the names under which the server keeps them.
pub(super) struct Scripts {
    pub(super) open: String,
    pub(super) write: String,
}

impl Server {
    pub(super) fn new(options: &RedisOptions, keys: &Keys, stop: &Stop) -> Result<Server, RedisError> {
        let address = Address::parse(&options.url, &FORM)?;
        let database = match address.path.as_deref() {
            None => 0,
            Some(number) => number.parse::<u32>().map_err(|_| AddressError::Form { example: FORM.example })?,
        };
        let runtime = ClientRuntime::new(stop).map_err(RedisError::Runtime)?;
        let place = format!("Redis at {}/{database}", address.server());
        let client = client(&address, database, &place)?;
        Ok(Server {
            connection: None,
            used: Instant::now(),
            runtime,
            client,
            limits: options.limits,
            place,
            user: address.user.unwrap_or_else(|| "default".into()),
            pattern: keys.pattern(),
        })
    }

    /// Server and database, as messages name them.
    pub(super) fn place(&self) -> String {
        self.place.clone()
    }

    /// Makes sure that there is a connection, and says whether it is a new one.
    pub(super) fn connect(&mut self) -> Result<bool, RedisError> {
        if self.connection.is_some() && self.used.elapsed() > TRUSTED && self.call(&cmd("PING")).is_err() {
            self.disconnect();
        }
        let is_new = self.connection.is_none();
        if is_new {
            let configuration = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
            let call = self.client.get_multiplexed_async_connection_with_config(&configuration);
            match self.runtime.run(self.limits.connect, call) {
                Ok(Ok(connection)) => self.connection = Some(connection),
                Ok(Err(error)) => return Err(self.refusal(&error)),
                Err(Halt::Stopped) => return Err(RedisError::Stopped),
                Err(Halt::TimedOut(limit)) => {
                    return Err(self.unreachable(format!("no answer within {} s", limit.as_secs())));
                }
            }
            self.used = Instant::now();
        }
        Ok(is_new)
    }

    /// Gives the connection up.
    pub(super) fn disconnect(&mut self) {
        self.connection = None;
    }

    /// Has the server keep the scripts. It forgets them when it restarts.
    pub(super) fn load(&mut self) -> Result<Scripts, RedisError> {
        let mut load = |script: &str| {
            let answer = self.call(cmd("SCRIPT").arg("LOAD").arg(script))?;
            Ok::<_, RedisError>(text(&answer).unwrap_or_default())
        };
        Ok(Scripts { open: load(include_str!("open.lua"))?, write: load(include_str!("write.lua"))? })
    }

    /// Sends a command, and returns what the server answers.
    pub(super) fn call(&mut self, command: &Cmd) -> Result<Value, RedisError> {
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.add_command(command.clone());
        self.call_all(&pipeline)?
            .pop()
            .unwrap_or(Err(RedisError::Broken { place: self.place(), reason: "no answer".into() }))
    }

    /// Sends several commands without waiting for answers in between.
    ///
    /// # Errors
    /// If there are no answers. The server's own errors are among them.
    pub(super) fn call_all(&mut self, commands: &Pipeline) -> Result<Vec<Result<Value, RedisError>>, RedisError> {
        let Some(connection) = self.connection.as_mut() else {
            return Err(RedisError::Broken { place: self.place(), reason: "it has been given up".into() });
        };
        let count = commands.len();
        let outcome = self.runtime.run(self.limits.call, connection.send_packed_commands(commands, 0, count));
        self.used = Instant::now();
        match outcome {
            Ok(Ok(answers)) => Ok(answers.into_iter().map(|answer| self.checked(answer)).collect()),
            Ok(Err(error)) => Err(self.failure(&error)),
            Err(Halt::Stopped) => Err(RedisError::Stopped),
            Err(Halt::TimedOut(limit)) => Err(RedisError::Silent { place: self.place(), limit }),
        }
    }

    fn checked(&self, answer: Value) -> Result<Value, RedisError> {
        match answer {
            Value::ServerError(error) => Err(self.failure(&error.into())),
            answer => Ok(answer),
        }
    }

    fn unreachable(&self, reason: String) -> RedisError {
        RedisError::Unreachable { place: self.place(), reason }
    }

    /// Why there is no connection.
    fn refusal(&self, error: &redis::RedisError) -> RedisError {
        let place = self.place();
        if let Some(reason) = tls_reason(error) {
            return RedisError::Tls { place, reason };
        }
        match (error.kind(), error.code()) {
            // What the server said of it, the client keeps to itself.
            (ErrorKind::AuthenticationFailed, _) => {
                RedisError::Refused { place, reason: "wrong user or password".into() }
            }
            (ErrorKind::Io, _) => self.unreachable(io_reason(error)),
            // The client did not log in, and was told so when it chose a database.
            _ if described(error).contains("Authentication required") => {
                RedisError::Refused { place, reason: "it wants a password".into() }
            }
            // The login comes before the choice of a database, and nothing else does.
            (ErrorKind::Server(ServerErrorKind::ResponseError), _) => {
                RedisError::NoDatabase { place, reason: described(error) }
            }
            _ => self.failure(error),
        }
    }

    /// Why a call failed.
    fn failure(&self, error: &redis::RedisError) -> RedisError {
        let place = self.place();
        let message = described(error);
        match error.code() {
            Some("NOAUTH" | "WRONGPASS") => RedisError::Refused { place, reason: message },
            Some("NOPERM") => {
                let (user, pattern) = (self.user.clone(), self.pattern.clone());
                RedisError::Rights { place, user, pattern, reason: message }
            }
            // Redis 7.0 says so of what a script may not do, without a code.
            Some("ERR") if message.contains("The user executing the script can't") => {
                let (user, pattern) = (self.user.clone(), self.pattern.clone());
                RedisError::Rights { place, user, pattern, reason: message }
            }
            Some("CROSSSLOT" | "MOVED" | "ASK") => RedisError::Cluster { place },
            // It has restarted, and forgotten the scripts.
            Some("NOSCRIPT") => RedisError::Broken { place, reason: "it has restarted".into() },
            Some(code) => {
                let passes = passes(code) || PASSING.iter().any(|code| message.contains(&format!("-{code} ")));
                RedisError::Server { place, message, passes }
            }
            None if error.is_io_error() => RedisError::Broken { place, reason: io_reason(error) },
            None => RedisError::Broken { place, reason: message },
        }
    }
}

/// Codes of errors that pass by themselves, or once somebody has made room. Redis before 7 puts them into the text of a
/// script's error.
const PASSING: [&str; 9] =
    ["LOADING", "BUSY", "TRYAGAIN", "MASTERDOWN", "CLUSTERDOWN", "READONLY", "OOM", "MISCONF", "NOREPLICAS"];

fn passes(code: &str) -> bool {
    PASSING.contains(&code)
}

/// What the server or the client says, on one line.
fn described(error: &redis::RedisError) -> String {
    const LONGEST: usize = 200;
    let text = match (error.code(), error.detail()) {
        (Some("ERR") | None, Some(detail)) => detail.to_owned(),
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (Some(code), None) => code.to_owned(),
        (None, None) => error.to_string(),
    };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect()
}

/// The first error of a kind among an error and what it stems from.
fn cause<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        // Neither names what is inside it as its source.
        let shared =
            error.downcast_ref::<Arc<dyn Error + Send + Sync>>().map(|shared| &**shared as &(dyn Error + 'static));
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = shared.or_else(|| inner.map(|inner| inner as &(dyn Error + 'static))).or_else(|| error.source());
    }
    None
}

fn tls_reason(error: &redis::RedisError) -> Option<String> {
    cause::<rustls::Error>(error).map(ToString::to_string)
}

fn io_reason(error: &redis::RedisError) -> String {
    cause::<io::Error>(error).map_or_else(|| described(error), network_reason)
}

fn client(address: &Address, database: u32, place: &str) -> Result<Client, RedisError> {
    let (host, port) = (address.host.clone(), address.port);
    let is_secure = address.scheme == "rediss";
    let server = match is_secure {
        true => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        false => ConnectionAddr::Tcp(host, port),
    };
    let mut login = RedisConnectionInfo::default().set_db(i64::from(database));
    if let Some(user) = &address.user {
        login = login.set_username(user);
    }
    if let Some(password) = &address.password {
        login = login.set_password(password.reveal());
    }
    let refused = |error: redis::RedisError| RedisError::Tls { place: place.to_owned(), reason: described(&error) };
    let info = server.into_connection_info().map_err(refused)?.set_redis_settings(login);
    let Some(path) = address.option("ca").filter(|_| is_secure) else { return Client::open(info).map_err(refused) };
    let certificates = fs::read(path).map_err(|error| AddressError::File {
        name: "ca",
        path: path.into(),
        reason: disk::reason(&error),
    })?;
    Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert: Some(certificates) }).map_err(refused)
}

/// A text, however it came.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) => Some(text.clone()),
        Value::Int(n) => Some(n.to_string()),
        Value::Okay => Some("OK".into()),
        _ => None,
    }
}

/// Texts of an array.
pub(super) fn texts(value: &Value) -> Vec<Option<String>> {
    match value {
        Value::Array(values) => values.iter().map(text).collect(),
        _ => Vec::new(),
    }
}

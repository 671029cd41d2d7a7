//! Socket options by which a dead machine or a cut network shows within seconds instead of never.

use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::TcpStream;
use std::time::Duration;

/// Quiet time before the first probe.
const PROBE_AFTER: Duration = Duration::from_secs(2);
/// Between probes.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// Unanswered probes that mean a dead peer.
const PROBES: u32 = 4;
/// How long sent bytes may stay unacknowledged (Linux; elsewhere the system's retransmission limit applies). Long enough
/// for a virtual machine's hiccup, which would otherwise end the run.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(6);

/// Prepares a connection between two processes: no delay, and failure within seconds when the other side is unreachable.
///
/// A peer that is stopped but whose kernel still answers (SIGSTOP, a debugger) is not noticed until much is unread.
pub(super) fn configure(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY).with_retries(PROBES),
    )?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    Ok(())
}

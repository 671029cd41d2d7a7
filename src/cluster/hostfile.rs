//! The addresses of a cluster's processes: a host file, as timely has it, or ports of this machine.

use super::ClusterError;
use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// The first of the ports that are used where there is no host file; timely's.
const FIRST_PORT: usize = 2101;

/// The addresses of `processes` processes on this machine, for a run without a host file.
pub fn default_addresses(processes: usize) -> Vec<String> {
    (0..processes).map(|index| format!("localhost:{}", FIRST_PORT + index)).collect()
}

/// Reads a host file: one `host:port` a line, by process index (`host` may be a name, an IPv4 address, or an IPv6 address
/// in brackets). Blank lines and lines that begin with `#` are skipped.
///
/// # Errors
/// A file that can't be read, a line that is no address, or no address at all.
pub fn parse_hostfile(path: &Path) -> Result<Vec<String>, ClusterError> {
    let text = fs::read_to_string(path).map_err(|cause| ClusterError::HostFile { path: path.to_owned(), cause })?;
    let mut addresses = Vec::new();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if !is_address(line) {
            let text = line.chars().take(80).collect();
            return Err(ClusterError::HostLine { path: path.to_owned(), line: number + 1, text });
        }
        addresses.push(line.to_owned());
    }
    if addresses.is_empty() {
        return Err(ClusterError::HostFileEmpty { path: path.to_owned() });
    }
    Ok(addresses)
}

/// Refuses two processes with one address: each would take the other's place.
pub(super) fn check_distinct(addresses: &[String]) -> Result<(), ClusterError> {
    let mut seen = HashMap::new();
    for (second, address) in addresses.iter().enumerate() {
        if let Some(first) = seen.insert(address, second) {
            return Err(ClusterError::SameAddress { first, second, address: address.clone() });
        }
    }
    Ok(())
}

fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bracketed = host.starts_with('[') && host.ends_with(']') && host.len() > 2;
    let named = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c.is_control() || ":[]/".contains(c));
    (bracketed || named) && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<String>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        let name = file.path().display().to_string();
        parse_hostfile(file.path()).map_err(|error| error.to_string().replace(&name, "hosts"))
    }

    #[test]
    fn hosts_come_in_order_without_blanks_and_comments() {
        let hosts = parse("\u{feff}# two of them\r\n a.example:2101 \n\n[::1]:2102\n10.0.0.7:2103").unwrap();
        assert_eq!(hosts, ["a.example:2101", "[::1]:2102", "10.0.0.7:2103"]);
    }

    #[test]
    fn a_bad_line_is_named() {
        for bad in
            ["a.example", "a.example:", ":2101", "a:+1", "a:0", "a:65536", "::1:2101", "[]:1", "http://a:80", "a b:1"]
        {
            let text = format!("localhost:1\n{bad}\n");
            assert_eq!(parse(&text), Err(format!("hosts line 2: {bad:?} is not host:port")));
        }
    }

    #[test]
    fn a_file_without_hosts_is_refused() {
        assert_eq!(parse("# none\n"), Err("the host file hosts names no host; it wants one host:port a line".into()));
        let error = parse_hostfile(Path::new("/nowhere/hosts")).unwrap_err().to_string();
        assert!(error.starts_with("cannot read the host file /nowhere/hosts: No such file"), "{error}");
    }

    #[test]
    fn the_same_address_twice_is_refused() {
        let error = check_distinct(&["a:1".into(), "b:1".into(), "a:1".into()]).unwrap_err();
        assert_eq!(error.to_string(), "processes 0 and 2 have the same address a:1");
    }
}

//! Memory, descriptors, and the clock.

use jiff::Timestamp;

use super::Finding;
use crate::config::Config;
use crate::observe::clock;
use crate::server::capacity;
use crate::sys;

/// What a machine with 512 MB carries; a limit below it is a mistake.
const EXPECTED_CONNECTIONS: usize = 12_000;
const MIB: u64 = 1 << 20;

pub fn findings(config: &Config) -> Vec<Finding> {
    vec![
        connections(capacity::connections(), capacity::memory_bytes(), config.limits.connections),
        time(clock::now()),
        synchronisation(),
    ]
}

/// How many connections memory and descriptors carry, against what is configured.
fn connections(possible: usize, memory: u64, configured: Option<usize>) -> Finding {
    const SUBJECT: &str = "connections";
    let memory = memory / MIB;
    let text = format!("room for {possible} (by memory and descriptors, {memory} MiB of memory)");
    match configured {
        Some(wanted) if wanted > possible => {
            let next = "lower [limits] connections, or raise LimitNOFILE and MemoryMax of the unit";
            Finding::warn(SUBJECT, format!("{text}, but [limits] connections is {wanted}"), next)
        }
        None if possible < EXPECTED_CONNECTIONS => {
            let next = "raise the limit on open files (LimitNOFILE of the unit, `ulimit -Hn`), or use a machine \
                        with more memory";
            Finding::warn(SUBJECT, text, next)
        }
        _ => Finding::ok(SUBJECT, text),
    }
}

/// A clock that is years away makes every certificate invalid.
fn time(now: Timestamp) -> Finding {
    let sane = |text: &str| text.parse::<Timestamp>().ok();
    let text = clock::rfc3339(now);
    let is_sane = sane("2026-01-01T00:00:00Z") <= Some(now) && Some(now) < sane("2100-01-01T00:00:00Z");
    if is_sane {
        return Finding::ok("clock", text);
    }
    Finding::fail("clock", format!("{text} can't be right"), "set it: certificates depend on it")
}

fn synchronisation() -> Finding {
    const SUBJECT: &str = "time service";
    const NEXT: &str = "install chrony, or run `timedatectl set-ntp true`";
    match sys::clock_is_synchronised() {
        Ok(true) => Finding::ok(SUBJECT, "keeps the clock right"),
        Ok(false) => Finding::warn(SUBJECT, "nothing keeps the clock right", NEXT),
        Err(error) => Finding::warn(SUBJECT, format!("can't ask whether it is synchronised: {error}"), NEXT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn few_connections_are_a_warning() {
        for (possible, configured, expected) in [
            (12_000, None, Level::Ok),
            (11_999, None, Level::Warn),
            (448, None, Level::Warn),
            (448, Some(400), Level::Ok),
            (12_000, Some(12_001), Level::Warn),
        ] {
            let finding = connections(possible, 512 * MIB, configured);
            assert_eq!(finding.level, expected, "{possible} {configured:?}: {finding}");
        }
    }

    #[test]
    fn a_clock_of_the_last_century_is_wrong() {
        for (now, expected) in [
            ("1970-01-01T00:01:00Z", Level::Fail),
            ("2026-11-24T16:00:00Z", Level::Ok),
            ("2106-02-07T00:00:00Z", Level::Fail),
        ] {
            assert_eq!(time(now.parse().unwrap()).level, expected, "{now}");
        }
    }
}

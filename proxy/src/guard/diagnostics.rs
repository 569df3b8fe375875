//! What the programs could not do, as they say it through aya-log. Each kind comes at most once in
//! 10 seconds.

use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};

/// The records of the programs that one start has loaded.
pub struct Diagnostics {
    logger: EbpfLogger<Lines>,
    lines: Lines,
}

impl Diagnostics {
    /// Errors: the programs have no ring buffer for them, or it can't be mapped.
    pub(super) fn of(ebpf: &mut Ebpf) -> Result<Self, aya_log::Error> {
        let lines = Lines::default();
        Ok(Self { logger: EbpfLogger::init_with_logger(ebpf, lines.clone())?, lines })
    }

    /// What has come since the last call, a line each.
    pub fn take(&mut self) -> Vec<String> {
        self.logger.flush();
        mem::take(&mut self.lines.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Diagnostics").finish_non_exhaustive()
    }
}

/// Where aya-log puts what it reads.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(record.args().to_string());
    }

    fn flush(&self) {}
}

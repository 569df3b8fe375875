use std::io::ErrorKind;
use std::os::fd::AsFd as _;
use std::thread;

use aya::programs::{
    Program as Loaded, ProgramError, RawTracePoint, SchedClassifier, SockOps, TestRun as _, TestRunOptions,
    Xdp,
};
use aya::{Ebpf, EbpfLoader};
use hookgate_ebpf::{abi, diagnostic, kernel_drops};

use super::diagnostics::Diagnostics;
use super::error::Error;
use super::pins::{Folder, MAPS};
use super::tc;
use crate::sys::bpf;

#[cfg(embedded_guard)]
const OBJECT: Option<&[u8]> =
    Some(aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/hookgate-guard.o")));
#[cfg(not(embedded_guard))]
const OBJECT: Option<&[u8]> = None;

/// The least that the kernel lets an XDP program be run with.
const ETHERNET_HEADER: usize = 14;
const XDP_PASS: u32 = 2;

/// The programs' object file.
pub fn embedded() -> Result<&'static [u8], Error> {
    OBJECT.ok_or(Error::NotEmbedded)
}

/// The programs in the kernel, not necessarily attached.
pub struct Program {
    pub ebpf: Ebpf,
    /// The name of the XDP program that this kernel takes.
    entry: &'static str,
    /// What the programs say of themselves; or why they do not.
    pub diagnostics: Result<Diagnostics, String>,
}

impl Program {
    /// The XDP program, with the maps in `reuse`, else with new ones, with counters for `rows`.
    pub fn load(object: &[u8], reuse: Option<&Folder>, rows: u32) -> Result<Self, Error> {
        let mut loader = EbpfLoader::new();
        loader.map_max_entries(abi::COUNTERS, rows).map_max_entries(abi::TRANSPORT, rows);
        if let Some(folder) = reuse {
            for name in MAPS {
                loader.map_pin_path(name, folder.map(name));
            }
        }
        let mut ebpf = loader.load(object).map_err(Error::from_loading)?;
        let diagnostics = Diagnostics::of(&mut ebpf).map_err(|error| error.to_string());
        let mut program = Self { ebpf, entry: abi::PROGRAM, diagnostics };
        match program.xdp()?.load() {
            Err(ProgramError::LoadError { io_error, .. }) if io_error.kind() == ErrorKind::InvalidInput => {
                // Kernels before 5.18 know nothing of frames in fragments, and say no more than
                // this.
                program.entry = abi::PROGRAM_LINEAR;
                program.xdp()?.load()
            }
            loaded => loaded,
        }
        .map_err(|error| Error::from_loading(error.into()))?;
        Ok(program)
    }

    pub fn xdp(&mut self) -> Result<&mut Xdp, Error> {
        self.named(self.entry)
    }

    /// Lets the kernel look for failed handshakes from now on, or look with this program instead of
    /// an older one.
    ///
    /// Errors: it has no memory for a timer, also not a little later; or it would crash.
    pub fn begin_sweeps(&mut self) -> Result<(), Error> {
        // Before Linux 5.18 blinding takes the address of a callback for a constant, and the timer
        // calls what comes out.
        if self.entry == abi::PROGRAM_LINEAR && bpf::blinds_constants().map_err(Error::BlindingUnknown)? {
            return Err(Error::HardenedJit);
        }
        /// One run that fails is nothing unusual: the kernel does not wait for memory here.
        const TRIES: u32 = 10_000;
        let loaded = self.named::<Xdp>(abi::SWEEPS)?.load();
        let name = match loaded.map_err(|error| Error::from_loading(error.into())) {
            Ok(()) => abi::SWEEPS,
            Err(error) => {
                self.diagnostics = Err(error.in_a_line());
                diagnostic::QUIET_SWEEPS
            }
        };
        let sweeps: &mut Xdp = self.named(name)?;
        if name == diagnostic::QUIET_SWEEPS {
            sweeps.load().map_err(|error| Error::from_loading(error.into()))?;
        }
        for _ in 0..TRIES {
            let options = TestRunOptions { data_in: Some(&[0; ETHERNET_HEADER]), ..TestRunOptions::new() };
            let run = sweeps.test_run(options).map_err(Error::Sweeps)?;
            if run.return_value == XDP_PASS {
                return Ok(());
            }
            thread::yield_now();
        }
        Err(Error::NoTimer)
    }

    /// The program that is told of handshakes.
    pub fn load_handshakes(&mut self) -> Result<&mut SockOps, Error> {
        let sock_ops: &mut SockOps = self.named(abi::HANDSHAKES)?;
        sock_ops.load().map_err(|error| Error::from_loading(error.into()))?;
        Ok(sock_ops)
    }

    /// The program that is told of packets that the kernel drops.
    pub fn load_kernel_drops(&mut self) -> Result<&mut RawTracePoint, Error> {
        let tracepoint: &mut RawTracePoint = self.named(kernel_drops::PROGRAM)?;
        tracepoint.load().map_err(|error| Error::from_loading(error.into()))?;
        Ok(tracepoint)
    }

    /// A tc program.
    pub fn load_tc(&mut self, names: [&str; 2]) -> Result<tc::Programs, Error> {
        let mut load = |name| {
            let program: &mut SchedClassifier = self.named(name)?;
            let loaded = program.load().and_then(|()| Ok(program.fd()?.as_fd().try_clone_to_owned()?));
            loaded.map_err(|error| Error::from_loading(error.into()))
        };
        let [ethernet, bare] = names.map(&mut load);
        Ok(tc::Programs { ethernet: ethernet?, bare: bare? })
    }

    pub fn pin(&mut self, folder: &Folder) -> Result<(), Error> {
        let path = folder.program();
        folder.unlink(&path)?;
        self.xdp()?.pin(&path).map_err(|source| Error::Pin { path, source })
    }

    fn named<'a, P>(&'a mut self, name: &str) -> Result<&'a mut P, Error>
    where
        &'a mut P: TryFrom<&'a mut Loaded, Error = ProgramError>,
    {
        let program = self.ebpf.program_mut(name).ok_or(ProgramError::UnexpectedProgramType);
        program.and_then(TryInto::try_into).map_err(|error| Error::from_loading(error.into()))
    }
}

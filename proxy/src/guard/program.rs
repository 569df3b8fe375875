use aya::programs::{ProgramError, Xdp};
use aya::{Ebpf, EbpfLoader};
use hookgate_ebpf::abi;

use super::Error;
use super::maps::MAPS;
use super::pins::Folder;

#[cfg(embedded_guard)]
const OBJECT: Option<&[u8]> =
    Some(aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/hookgate-guard.o")));
#[cfg(not(embedded_guard))]
const OBJECT: Option<&[u8]> = None;

/// The program's object file.
pub fn embedded() -> Result<&'static [u8], Error> {
    OBJECT.ok_or(Error::NotEmbedded)
}

/// The XDP program in the kernel, not necessarily attached.
pub struct Program {
    pub ebpf: Ebpf,
}

impl Program {
    /// With the maps that lie in `reuse`, else with new ones.
    pub fn load(object: &[u8], reuse: Option<&Folder>) -> Result<Self, Error> {
        let mut loader = EbpfLoader::new();
        if let Some(folder) = reuse {
            for name in MAPS {
                loader.map_pin_path(name, folder.map(name));
            }
        }
        let mut program = Self { ebpf: loader.load(object).map_err(Error::from_loading)? };
        program.xdp()?.load().map_err(|error| Error::from_loading(error.into()))?;
        Ok(program)
    }

    pub fn xdp(&mut self) -> Result<&mut Xdp, Error> {
        let program = self.ebpf.program_mut(abi::PROGRAM).ok_or(ProgramError::UnexpectedProgramType);
        program.and_then(TryInto::try_into).map_err(|error| Error::from_loading(error.into()))
    }

    pub fn pin(&mut self, folder: &Folder) -> Result<(), Error> {
        let path = folder.program();
        folder.unlink(&path)?;
        self.xdp()?.pin(&path).map_err(|source| Error::Pin { path, source })
    }
}

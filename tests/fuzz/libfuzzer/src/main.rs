//! One binary for all targets, linked once: `HOOKGATE_FUZZ_TARGET` says which it is. What the
//! tests' data says about the target goes into the folder `HOOKGATE_FUZZ_SEEDS` before anything is
//! tried.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use hookgate_fuzz::Check;
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<Check> = LazyLock::new(|| {
    let name = variable("HOOKGATE_FUZZ_TARGET");
    let folder = variable("HOOKGATE_FUZZ_SEEDS");
    for (seed, number) in hookgate_fuzz::seeds::seeds(&name).into_iter().zip(1..) {
        let path = Path::new(&folder).join(format!("seed-{number}"));
        std::fs::write(&path, seed).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
    hookgate_fuzz::target(&name).unwrap_or_else(|| panic!("HOOKGATE_FUZZ_TARGET: there is no target {name}"))
});

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `cargo xtask fuzz`"))
}

fuzz_target!(init: LazyLock::force(&TARGET), |data: &[u8]| TARGET(data));

//! What the tests of the package begin with.

pub const CHECKS: &str =
    concat!(include_str!("../retry_until.sh"), include_str!("../check.sh"), include_str!("checks.sh"));

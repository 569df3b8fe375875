/// Lengths of periods, in seconds.
pub const MINUTE: i64 = 60;
pub const HOUR: i64 = 3600;

//! What the kernel's TCP tells of each index: delays, and what it had to send again.

/// Of one index. Several CPUs add to it, each number in one step.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// From the SYN-ACK to the ACK that completed the handshake, where one SYN-ACK left: of several
    /// it is not known which one was acknowledged (Karn's algorithm).
    pub round_trip: Delays,
    /// From the first SYN to the completed handshake.
    pub established: Delays,
    /// Of connections whose handshakes were counted; SYN-ACKs are not among them.
    pub segments_retransmitted: u64,
    /// Retransmission timeouts of these connections.
    pub timeouts: u64,
}
const _: () = assert!(size_of::<Transport>() == 44 * size_of::<u64>());

/// How many took how long. Each bucket ends at twice the former one's end.
pub type Delays = [u64; BUCKETS];

/// The last one has what took longer than its end, too.
pub const BUCKETS: usize = 21;

/// The end of a bucket, in microseconds: 64 µs, 128 µs, … 67 s.
pub const fn end_microseconds(bucket: usize) -> u64 {
    1 << (FIRST_END_BIT as usize + bucket)
}

const FIRST_END_BIT: u32 = 6;

/// The bucket of a time. What takes exactly as long as a bucket's end belongs to that.
#[inline(always)]
pub fn bucket(nanoseconds: u64) -> usize {
    let above_first = (nanoseconds.saturating_sub(1) / 1000) >> FIRST_END_BIT;
    let bucket = (u64::BITS - above_first.leading_zeros()) as usize;
    if bucket < BUCKETS { bucket } else { BUCKETS - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_has_what_takes_longer_than_the_former_ones_end() {
        assert_eq!(bucket(0), 0);
        for number in 0..BUCKETS {
            let end = end_microseconds(number) * 1000;
            assert_eq!(bucket(end), number);
            assert_eq!(bucket(end + 1), (number + 1).min(BUCKETS - 1));
        }
        assert_eq!(end_microseconds(BUCKETS - 1), 67_108_864);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }
}

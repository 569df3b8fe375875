/// In network byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    V4([u8; 4]),
    V6([u8; 16]),
}

impl Address {
    /// As IPv6 writes it: an IPv4 address is mapped (RFC 4291 §2.5.5.2).
    #[inline(always)]
    pub fn mapped(self) -> [u8; 16] {
        match self {
            Self::V4([a, b, c, d]) => [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d],
            Self::V6(address) => address,
        }
    }

    /// The same as two numbers, which need no memory: the verifier of Linux 5.15 refuses to read an
    /// address of either family that is on the stack.
    #[inline(always)]
    pub fn words(self) -> [u64; 2] {
        match self {
            Self::V4(address) => [0, 0xffff << 32 | u64::from(u32::from_be_bytes(address))],
            Self::V6([a, b, c, d, e, f, g, h, rest @ ..]) => {
                [u64::from_be_bytes([a, b, c, d, e, f, g, h]), u64::from_be_bytes(rest)]
            }
        }
    }

    /// The reverse of [`Address::mapped`].
    #[inline(always)]
    pub fn from_mapped(address: [u8; 16]) -> Self {
        match address {
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] => Self::V4([a, b, c, d]),
            address => Self::V6(address),
        }
    }
}

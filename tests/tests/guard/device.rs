//! Interfaces of a kind that every kernel has: what is sent over them goes through a process.

use std::net::UdpSocket;
use std::time::Duration;

use anyhow::Result;
use harness::{NetNs, Running};

const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Opens the device that is named first, and passes on: from there to the last address, and what
/// comes to the other one to the device.
const PASS_ON: &str = "
import fcntl, os, select, socket, struct, sys
name, kind, own, other = sys.argv[1:]
TUNSETIFF, NO_PI = 0x400454ca, 0x1000
device = os.open('/dev/net/tun', os.O_RDWR)
fcntl.ioctl(device, TUNSETIFF, struct.pack('16sH22x', name.encode(), {'tun': 1, 'tap': 2}[kind] | NO_PI))
address = lambda text: (text.rsplit(':', 1)[0], int(text.rsplit(':', 1)[1]))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
udp.bind(address(own))
print('ready', file=sys.stderr, flush=True)
while True:
    for ready in select.select([device, udp], [], [])[0]:
        if ready == udp:
            os.write(device, udp.recv(65535))
        else:
            udp.sendto(os.read(device, 65535), address(other))
";

/// A device, and the process without which it goes.
pub struct Device(#[expect(dead_code, reason = "ends when it is dropped")] Running);

impl Device {
    /// `kind`: `tun` or `tap`; `own` and `other`: UDP addresses.
    pub fn new(ns: &NetNs, name: &str, kind: &str, own: &str, other: &str) -> Result<Self> {
        let mut python = ns.command("python3");
        python.args(["-c", PASS_ON, name, kind, own, other]);
        let mut running = Running::start(python)?;
        running.wait_for_stderr("ready", START_TIMEOUT)?;
        ns.run(&format!("ip link set {name} up"))?;
        Ok(Self(running))
    }
}

/// A tap device on one machine, at which frames come in.
pub struct Port {
    _device: Device,
    socket: UdpSocket,
}

impl Port {
    pub fn new(ns: &NetNs, name: &str) -> Result<Self> {
        const DEVICE: &str = "127.0.0.1:7001";
        let socket = ns.inside(|| Ok(UdpSocket::bind("127.0.0.1:7002")?))?;
        let device = Device::new(ns, name, "tap", DEVICE, "127.0.0.1:7002")?;
        socket.connect(DEVICE)?;
        Ok(Self { _device: device, socket })
    }

    pub fn receive(&self, frame: &[u8]) -> Result<()> {
        self.socket.send(frame)?;
        Ok(())
    }
}

# Runs the tests in the guest, on the host's programs and files; what stands before this sets BUSYBOX, MODULES and JIT_HARDEN, what
# comes after is a line for each test binary, and `finish`.
set -e
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/bin HOME=/root
release=$(uname -r)

# As systemd would have it.
ln -s /proc/self/fd /dev/fd
mkdir -p /dev/shm /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t devpts -o ptmxmode=666 devpts /dev/pts
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tracefs tracefs /sys/kernel/tracing
ulimit -Hn 524288
# 2: as hardened machines do, to programs of everybody: constants are blinded.
echo "$JIT_HARDEN" >/proc/sys/net/core/bpf_jit_harden
ip link set lo up

# The kernel asks for its modules by itself, and tests do.
mkdir -p "/lib/modules/$release"
mount --bind "$MODULES" "/lib/modules/$release"
mkdir /run/bin
ln -s "$BUSYBOX" /run/bin/modprobe
echo /run/bin/modprobe >/proc/sys/kernel/modprobe
# But for those that systemd has loaded: one for the processor, with which encrypting costs what it costs elsewhere, and one
# that makes /dev/net/tun.
modprobe aesni_intel
modprobe tun
# And the one for the machine's two network cards, which are on one wire: tests may take them.
[ -d /sys/bus/virtio/drivers/virtio_net ] || modprobe virtio_net
export HOOKGATE_TEST_WIRE="eth0 eth1"

# The console is the kernel's; this line is ours alone.
exec 3>/dev/ttyS1
stty -F /dev/ttyS1 raw
echo "on Linux $release" >&3

# run NAME SECONDS BINARY ARGUMENT…
run() {
    name=$1 limit=$2
    shift 2
    status=0
    timeout -k 5 "$limit" "$@" </dev/null >&3 2>&3 3>&- || status=$?
    case $status in
    0 | 101) ;; # and the test runner has counted them
    124 | 137) failed "$name: took longer than $limit s" ;;
    *) failed "$name: ended with $status" ;;
    esac
}

run_over_kernel_tls() {
    export HOOKGATE_OVER_TLS=1
    run_with_kernel_tls "$@"
    unset HOOKGATE_OVER_TLS
}

run_with_kernel_tls() {
    export HOOKGATE_KTLS=always
    sent=$(kernel_tls TlsTxSw) received=$(kernel_tls TlsRxSw)
    run "$@"
    unset HOOKGATE_KTLS
    sent=$(($(kernel_tls TlsTxSw) - sent)) received=$(($(kernel_tls TlsRxSw) - received))
    echo "kernel TLS: $sent sockets sent with it, $received received; left: $(kernel_tls TlsCurrTxSw)" >&3
    if [ "$sent" -eq 0 ] || [ "$received" -eq 0 ] || [ "$(kernel_tls TlsCurrTxSw)" -ne 0 ]; then
        failed "$name: the kernel's TLS was not used, or sockets with it are left"
    fi
}

# A count of the kernel's TLS (Documentation/networking/tls.rst); 0 while it is not loaded.
kernel_tls() {
    count=$(sed -n "s/^$1[[:space:]]*//p" /proc/net/tls_stat 2>/dev/null) || true
    echo "${count:-0}"
}

# In the test runner's words, so that it is counted.
failed() {
    printf '\ntest %s ... FAILED\n\ntest result: FAILED. 0 passed; 1 failed\n' "$1" >&3
}

finish() {
    echo done >&3
    exec 3>&-
    exec "$BUSYBOX" poweroff -f
}


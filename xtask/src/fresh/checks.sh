# What is tried on a machine that has never seen hookgate, as root. Each check is a line in the test runner's words.
group=fresh::$root
export DEBIAN_FRONTEND=noninteractive
# The lists know a compiler of the release's day alone, while the archive has a newer one.
old_lists() {
    apt-get update -qq
    mirror=$(awk '$1 == "deb" {print $2; exit}' /etc/apt/sources.list)
    echo "deb ${mirror%/debian}/debian-security bookworm-security main" >>/etc/apt/sources.list
    check lists_are_old sh -c "apt-cache policy rustc-web | grep 'Candidate: 1[.]85'"
}
without_apt() { rm -f /usr/bin/apt-get /usr/bin/apt; }

# line NAME: what `cargo xtask run` printed after `NAME: `
line() { sed -n "s/^$1: //p" /run/printed; }
# Also where it has ended: waiting longer would not help.
printed() { grep -q '^deliveries: ' /run/printed || ! kill -0 "$cargo" 2>/dev/null; }
answered() { sh -c "$(line try)" | tee /run/answer | grep -q '^HTTP/1.1 200'; }
attached() { sh -c "$(line stats)" | grep -q 'attached to lo'; }
shown() { sh -c "$(line deliveries)" | grep -q 'POST /receiver.example/'; }
page() { curl -sS --fail --noproxy '*' "$(line page)" | grep -q '<title>'; }
silent() { ! grep -i warning /run/log; }
nothing_left() { ! ls /sys/fs/bpf | grep hookgate; }

first_run() {
    begun=$(date +%s)
    cd || return
    check clone git -c safe.directory='*' clone -q file:///mnt/source hookgate
    cd hookgate || return
    cargo xtask run >/run/printed 2>/run/log &
    cargo=$!
    retry_until 1800 printed
    check try_line sh -c "grep '^deliveries: ' /run/printed || { tail -n 30 /run/log && false; }"
    echo "try: $(($(date +%s) - begun)) s after the clone began, in $root"
    grep '^xtask: ' /run/log
    check answer_is_200 answered
    check guard_is_attached attached
    check request_is_listed shown
    check page_is_served page
    check no_warning silent
    pkill_run
    check nothing_is_left retry_until 15 nothing_left
}
# cargo has become a parent of xtask; a terminal would signal both.
pkill_run() {
    for child in $(cat "/proc/$cargo/task/$cargo/children"); do kill -INT "$child"; done
    wait "$cargo"
}

# From the sources: the archive's newest compiler is taken, and makes the bytes that the repository carries.
compile() {
    check compiles sh -c 'cargo xtask object 2>/run/log || { cat /run/log && false; }'
    grep '^xtask: ' /run/log
    check object_is_the_same git diff --exit-code --stat proxy-ebpf/object
}

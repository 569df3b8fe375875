# What the tests of the package have in common; they run in a small Debian, as root, without systemd and without a network
# but lo, with the package in /run/first.deb and its next revision in /run/second.deb. Each check is a line in the test
# runner's words; after each test comes `finish`.
group=package
export DEBIAN_FRONTEND=noninteractive
toml=/etc/hookgate/hookgate.toml
not() { ! "$@"; }
equal() { [ "$1" = "$2" ] || { echo "$1 instead of $2" && false; }; }
mode() { equal "$(stat -c '%U:%G %a' "$1")" "$2"; }
# status PATH [SECONDS]: of the proxy's answer to a POST, which may take so long
status() { curl -sk --max-time "${2:-20}" -o /dev/null -w '%{http_code}' -d '{}' "https://127.0.0.1$1"; }
answers() { equal "$(status "$1")" "$2"; }

# As the unit starts it: its user, its capabilities, none more.
capabilities=$(printf ',+%s' net_bind_service setuid setgid net_admin bpf perfmon)
start() {
    # As before the unit's start, where a failure does not count.
    systemd-tmpfiles --create hookgate.conf || :
    setpriv --reuid hookgate --regid hookgate --init-groups --no-new-privs --bounding-set "-all$capabilities" \
        --inh-caps "-all$capabilities" --ambient-caps "-all$capabilities" hookgate run >/dev/null 2>/run/log &
    parent=$!
    retry_until 10 curl -s -o /dev/null http://127.0.0.1:9432/health || { cat /run/log && false; }
}
stop() {
    kill -TERM "$parent"
    wait "$parent"
}
# Whether the guard is on lo, in tc.
guarded() { test -e /sys/fs/bpf/hookgate/link-tc-lo && hookgate guard status | grep 'attached to lo (tc'; }
# Before Linux 6.6 a filter holds it, which would outlive its pins.
unguarded() { ! test -e /sys/fs/bpf/hookgate/link-tc-lo && ! tc filter show dev lo ingress | grep incoming; }
# Guards lo, as the package's configuration guards other interfaces.
guard_lo() { sed -i 's/^interfaces = "auto"/interfaces = ["lo"]\nrefresh = "off"/' $toml; }
worker() { cat "/proc/$parent/task/$parent/children" | tr -d ' '; }
# uid PID NAME
runs_as() { equal "$(awk '/^Uid:/ {print $2, $3, $4, $5}' "/proc/$1/status")" "$(id -u "$2" | sed 's/.*/& & & &/')"; }
line() { awk -v key="$2:" '$1 == key {print $2}' "/proc/$1/status"; }

# For the table of what was run where.
system="Debian $(cat /etc/debian_version), systemd $(systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p'), \
Linux $(uname -r | cut -d. -f1,2), $(dpkg --print-architecture)"

# Of the unit, where systemd runs. `parent` is the process that was its main one.
main() { systemctl show --property MainPID --value hookgate; }
active() { equal "$(systemctl is-active hookgate)" active; }
another_is_active() {
    now=$(main)
    [ "$now" != 0 ] && not equal "$now" "$parent" && active
}

# A certificate authority for which every name leads here, and which looks at answers on port 80. It has its own
# certificate of tls.crt; the root of those that it gives will lie in root.pem.
start_authority() {
    authority=/run/authority
    mkdir $authority
    echo 127.0.0.1 localhost >>/etc/hosts
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext basicConstraints=critical,CA:FALSE \
        -addext subjectAltName=DNS:localhost -keyout $authority/tls.key -out $authority/tls.crt
    cat >$authority/pebble.json <<EOF
{ "pebble": { "listenAddress": "127.0.0.1:14000", "managementListenAddress": "127.0.0.1:15000",
    "certificate": "$authority/tls.crt", "privateKey": "$authority/tls.key", "httpPort": 80, "tlsPort": 443 } }
EOF
    pebble-challtestsrv -dns01 127.0.0.1:8053 -http01 "" -tlsalpn01 "" -https01 "" -management 127.0.0.1:8055 \
        -defaultIPv4 127.0.0.1 -defaultIPv6 "" >$authority/names.log 2>&1 &
    # By itself it refuses one nonce in twenty, and certbot tries only once more. Tests of hookgate's own client leave it so.
    PEBBLE_WFE_NONCEREJECT=0 pebble -strict -dnsserver 127.0.0.1:8053 -config $authority/pebble.json >$authority/log 2>&1 &
    retry_until 20 curl -s --cacert $authority/tls.crt -o $authority/root.pem https://localhost:15000/roots/0
}

# Takes webhooks on port 3000, and answers each with 200; a `held` one once it is let go.
start_receiver() {
    cat >/run/receiver.py <<'EOF'
import http.server, os, time
class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        if "held" in self.path:
            open("/run/held", "w").close()
            while not os.path.exists("/run/let-go"):
                time.sleep(0.1)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", 3000), Receiver).serve_forever()
EOF
    python3 /run/receiver.py &
    retry_until 10 curl -s -o /dev/null -d '{}' http://127.0.0.1:3000/
}
# A stopwatch from a bare machine to the first webhook over a valid certificate: each command with type_in, between these.
start_stopwatch() {
    check authority_starts start_authority
    check receiver_starts start_receiver
    typed=0 began=$(date +%s)
}
type_in() {
    typed=$((typed + 1))
    check "stopwatch_$typed" "$@"
}
# The authority here stands in for Let's Encrypt. Users do not type this line.
name_authority() { sed -i "/^domains/a directory = \"https://localhost:14000/dir\"\nca = \"$authority/tls.crt\"" $toml; }
arrived() {
    equal "$(curl -s --cacert $authority/root.pem --resolve proxy.example.com:443:127.0.0.1 -o /dev/null \
        -w '%{http_code}' -d '{}' https://proxy.example.com/chatwoot.example.com/webhooks/whatsapp)" 200
}
stop_stopwatch() {
    check first_webhook_arrives retry_until 120 arrived
    measured="$typed commands and $(($(date +%s) - began)) seconds to the first webhook over a valid certificate"
    echo "stopwatch: $measured"
    check at_most_four_commands [ $typed -le 4 ]
}

# A webhook that has come to the receiver and waits there until let_go; then its status is in /run/answer.
hold() {
    rm -f /run/held /run/let-go
    status /receiver.example.com/held 60 >/run/answer &
    held=$!
    retry_until 20 test -e /run/held
}
let_go() {
    touch /run/let-go
    wait $held
}

# Webhooks for PATH until stop_load: over a connection each, and over one that is kept and, as Meta's sender does it, made
# anew where it has been closed before an answer began. A line in /run/answered for each 200, in /run/failed for all else.
start_load() {
    cat >/run/load.py <<'EOF'
import http.client, ssl, sys, threading, time
context = ssl._create_unverified_context()
closed = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
answered, failed = (open(f"/run/{name}", "w", buffering=1) for name in ("answered", "failed"))
def ask(connection):
    connection.request("POST", sys.argv[1], b"{}")
    answer = connection.getresponse()
    answer.read()
    return answer.status
def send(keeps):
    connection = None
    while True:
        is_first = connection is None
        connection = connection or http.client.HTTPSConnection("127.0.0.1", timeout=60, context=context)
        try:
            status = ask(connection)
            print(status, file=answered if status == 200 else failed)
        except (OSError, http.client.HTTPException) as error:
            if not is_first and isinstance(error, closed):
                connection = None
                continue
            print("on a new connection:" if is_first else "on one that was kept:", repr(error), file=failed)
        if not keeps or connection.sock is None:
            connection.close()
            connection = None
        time.sleep(0.05)
for keeps in (False, True):
    threading.Thread(target=send, args=(keeps,)).start()
EOF
    rm -f /run/answered
    python3 /run/load.py "$1" &
    load=$!
    retry_until 10 test -s /run/answered
}
answered() { [ "$(wc -l </run/answered)" -ge "$1" ]; }
# stop_load LEAST: once so many more are answered; none failed.
stop_load() {
    retry_until 20 answered $(($(wc -l </run/answered) + $1)) || return 1
    kill -KILL $load
    echo "$(wc -l </run/answered) answered"
    equal "$(cat /run/failed)" ""
}

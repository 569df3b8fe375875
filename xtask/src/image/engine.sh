# The container engine, and what is around the machine that it is on: `wan`, where Meta and strangers are, and `pod`, a
# network behind a bridge, as engines make it.
group=image
export HOME="$dir" PYTHONPATH="$compose"
engine() {
    podman --root "$dir/graph" --runroot /run/podman --tmpdir /run/podman-tmp --storage-driver vfs --runtime crun \
        --cgroup-manager cgroupfs --events-backend none --network-backend netavark "$@"
}
# Raising limits, and writing limits of control groups, takes more than root has on some machines.
files=$(ulimit -Hn)
limits="--cgroups=disabled --ulimit nofile=$files:$files --ulimit nproc=4096:4096"
oci="oci:$image:$version"

# wan: 157.240.0.7 is in a prefix of Meta's. pod: the machine's end of its bridge is 10.88.0.1.
unshare --net sleep infinity &
wan=$!
unshare --net sleep infinity &
pod=$!
apart() { [ "$(readlink "/proc/$1/ns/net")" != "$(readlink /proc/self/ns/net)" ]; }
retry_until 5 apart $wan && retry_until 5 apart $pod
on_wan() { nsenter --target "$wan" --net -- "$@"; }
in_pod() { nsenter --target "$pod" --net -- "$@"; }
ip link add wan0 type veth peer name wan0 netns "$wan"
ip link add pod0 type veth peer name eth0 netns "$pod"
ip address add 157.240.0.1/24 dev wan0
ip address add 10.88.0.1/24 dev pod0
ip link set wan0 up
ip link set pod0 up
ip route add default via 157.240.0.7
on_wan ip address add 157.240.0.7/24 dev wan0
on_wan ip link set wan0 up
in_pod ip link set lo up
in_pod ip address add 10.88.0.2/24 dev eth0
in_pod ip link set eth0 up
in_pod ip route add default via 10.88.0.1

# Answers every request with the address that it came from.
cat >receiver.py <<'EOF'
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = self.headers.get("X-Real-IP", "").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass
http.server.ThreadingHTTPServer(("10.88.0.1", 8000), Handler).serve_forever()
EOF
python3 receiver.py &

# configure PORT: the folder for /etc/hookgate.
mkdir hookgate
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout hookgate/key.pem -out hookgate/cert.pem -days 2 \
    -subj /CN=proxy.example -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:proxy.example 2>/dev/null
configure() {
    cat >hookgate/hookgate.toml <<EOF
[listen]
https = ["0.0.0.0:$1"]
[tls]
cert = "cert.pem"
key = "key.pem"
[upstreams]
"receiver.example" = { address = "10.88.0.1:8000", tls = false }
[guard]
interfaces = "auto"
ports = [$1]
xdp = "tc"
refresh = "off"
[dns]
servers = ["10.88.0.1"]
timeout = "100ms"
[admin]
listen = "127.0.0.1:9432"
socket = "/run/hookgate/admin.sock"
[insight]
ledger = 10000
EOF
}
configure 443

# What Docker has allowed since 23.0, and podman 4 not yet: bpf(2) for who has CAP_BPF.
python3 - <<'EOF'
import json
rules = json.load(open("/usr/share/containers/seccomp.json"))
for call, capability in (("bpf", "CAP_BPF"), ("perf_event_open", "CAP_PERFMON")):
    for rule in rules["syscalls"]:
        if rule["action"] == "SCMP_ACT_ERRNO" and call in rule["names"]:
            rule["names"].remove(call)
    rules["syscalls"].append({"names": [call], "action": "SCMP_ACT_ALLOW", "includes": {"caps": [capability]}})
json.dump(rules, open("seccomp.json", "w"))
EOF

# within SECONDS COMMAND…: as retry_until, with the last that the command said.
within() {
    limit=$1
    shift
    retry_until "$limit" "$@" >tries 2>&1 || { tail -n 2 tries && return 1; }
}
# begin ARGUMENTS…: a container named hookgate.
begin() { engine run --detach --name hookgate $limits --security-opt no-new-privileges "$@" "$oci"; }
end() { engine rm --force --time 5 hookgate; }
inside() { engine exec hookgate hookgate "$@"; }
logs() { engine logs hookgate 2>&1; }
says() { logs | grep -F "$1"; }
# ask [PORT]: a webhook from Meta's address; prints what the receiver was told of its source.
ask() {
    on_wan curl --silent --show-error --fail --max-time 5 --noproxy '*' --cacert hookgate/cert.pem \
        --connect-to "proxy.example:443:157.240.0.1:${1:-443}" --data '{}' https://proxy.example/receiver.example/webhooks
}
comes_from() { [ "$(ask)" = "$1" ]; }
# Of the one prefix that `wan` is in.
counted() {
    inside stats --json | python3 -c 'import json, sys
print(sum(prefix[sys.argv[1]] for prefix in json.load(sys.stdin)["prefixes"]))' "$1"
}
attached() { inside stats --json | grep -q '"state": *"attached"'; }

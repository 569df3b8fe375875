# A machine to try a page on: this one's files under a layer that is thrown away, and an operator's world around it. Names
# lead to servers here, everybody trusts one authority, and the proxy of proxy.example.com runs with its guard.
# Each step says `ok AT`, or `FAILED AT` and, indented, what was said.
set -u
files=/mnt/docs
toml=/etc/hookgate/hookgate.toml
live=/etc/letsencrypt/live/proxy.example.com

judge() {
    at=$1
    shift
    if timeout 60 "$@" </dev/null >/run/said 2>&1; then
        echo "ok $at"
    else
        echo "FAILED $at: exit code $?"
        tail -n 20 /run/said | sed 's/^/    /'
    fi
}

start_proxy() {
    env hookgate run </dev/null >/run/proxy.log 2>&1 &
    echo $! >/run/proxy.pid
    retry_until 10 curl -s -o /dev/null http://127.0.0.1:9432/health || { cat /run/proxy.log && false; }
}
stop_proxy() {
    kill -TERM "$(cat /run/proxy.pid)"
    retry_until 10 is_gone "$(cat /run/proxy.pid)"
}
is_gone() { ! kill -0 "$1" 2>/dev/null; }

# place KIND PATH: what a configuration names
place() {
    [ ! -e "$2" ] || return 0
    mkdir -p "$(dirname "$2")"
    case $1 in
    folder) mkdir "$2" ;;
    *) cp "$files/$1" "$2" ;;
    esac
}

configuration() {
    cp "$files/$2" $toml
    judge "$1" hookgate check
}
nginx_site() {
    mkdir -p /etc/nginx/sites-enabled
    rm -f /etc/nginx/sites-enabled/*
    cp "$files/$2" /etc/nginx/sites-enabled/hookgate
    judge "$1" nginx -t
}
commands() { judge "$1" sh -e "$files/$2"; }
document() {
    at=$1 to=$2
    shift 2
    timeout 60 "$@" </dev/null >"$files/$to" 2>/run/said || true
    judge "$at" test -s "$files/$to"
}

# An authority, and what it issues, for a year: files of the names that `place` knows.
authority() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj "/CN=the pages' authority" \
        -addext keyUsage=critical,keyCertSign,cRLSign -keyout "$files/authority.key" -out "$files/authority" \
        2>/run/said || { cat /run/said && exit 1; }
}
# issue CERTIFICATE KEY NAME…
issue() {
    certificate=$files/$1 key=$files/$2 subject=$3
    shift 2
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj "/CN=$subject" \
        -CA "$files/authority" -CAkey "$files/authority.key" -addext "subjectAltName=$(printf 'DNS:%s,' "$@")IP:127.0.0.1" \
        -addext basicConstraints=critical,CA:FALSE -addext extendedKeyUsage=serverAuth \
        -keyout "$key" -out "$certificate" 2>/run/said || { cat /run/said && exit 1; }
}

# Beyond eth0: the DNS, and the receiver.
outside() { nsenter --net=/run/netns/outside "$@"; }

machine() {
    for user in hookgate hookgate-worker; do
        grep -q "^$user:" /etc/passwd || useradd --system --user-group --no-create-home "$user"
    done
    rm -f /etc/resolv.conf
    echo nameserver 1.1.1.1 >/etc/resolv.conf
    printf '127.0.0.1 localhost\n203.0.113.7 proxy.example.com\n' >/etc/hosts
    mkdir -p /etc/ssl/certs /var/www/html /srv
    authority
    issue certificate key proxy.example.com localhost
    issue receiver.certificate receiver.key chatwoot.example.com chatwoot.other.com receiver.example.com
    cat "$files/authority" >>/etc/ssl/certs/ca-certificates.crt
    place certificate $live/fullchain.pem
    place key $live/privkey.pem
    rm -rf /etc/hookgate /var/lib/hookgate /run/hookgate
    mkdir -p /etc/hookgate/upstreams.d /var/lib/hookgate /run/hookgate
    ip netns add outside
    ip link add eth0 type veth peer name far netns outside
    ip address add 203.0.113.7/24 dev eth0
    ip link set eth0 up
    outside ip address add 203.0.113.1/24 dev far
    outside ip link set far up
    outside ip link set lo up
    for address in 1.1.1.1 8.8.8.8 10.0.0.5 93.184.216.34; do
        outside ip address add $address/32 dev lo
    done
    ip route add default via 203.0.113.1
}

world() {
    outside dnsmasq --conf-file=/dev/null --pid-file= --user=root --no-hosts --no-resolv --bind-interfaces \
        --listen-address=1.1.1.1 --listen-address=8.8.8.8 --address=/proxy.example.com/203.0.113.7 \
        --address=/example.com/93.184.216.34 --address=/other.com/93.184.216.34
    cat >/run/receiver.conf <<'EOF'
pid /run/receiver.pid;
error_log /run/receiver.log;
events {}
http {
    access_log off;
    map $args $challenge {
        "~hub\.challenge=(?<given>[^&]+)" $given;
        default received;
    }
    server {
        listen 93.184.216.34:443 ssl;
        listen 10.0.0.5:3000;
        ssl_certificate /mnt/docs/receiver.certificate;
        ssl_certificate_key /mnt/docs/receiver.key;
        return 200 $challenge;
    }
}
EOF
    outside nginx -c /run/receiver.conf
    cat >$toml <<EOF
[listen]
https = ["0.0.0.0:443"]
http = ["0.0.0.0:80"]
[tls]
cert = "$live/fullchain.pem"
key = "$live/privkey.pem"
[upstreams]
"chatwoot.example.com" = {}
[guard]
interfaces = ["eth0"]
refresh = "off"
[admin]
listen = "127.0.0.1:9432"
socket = "/run/hookgate/admin.sock"
EOF
    start_proxy
}

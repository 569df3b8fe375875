# What the tests of the repository have in common, beside those of the package; they run under systemd, with what they are
# about in /srv/test.
version() { dpkg-query -W -f '${Version}' hookgate; }
is_version() { equal "$(version)" "$1"; }
# The versions that there are, by the packages' names.
versions() { ls /srv/test/after/pool/main/h/hookgate | sed -n 's/^hookgate_\(.*\)_amd64\.deb$/\1/p' | sort -V; }
first=$(versions | head -n 1) second=$(versions | tail -n 1)
# publish NAME: a repository of /srv/test, at the place that is served
publish() {
    rm -rf /srv/www/hookgate
    mkdir -p /srv/www
    cp -r "/srv/test/$1" /srv/www/hookgate
}
serve() {
    python3 -m http.server --bind 127.0.0.1 --directory /srv/www 8000 >/run/served 2>&1 &
    retry_until 10 curl -sf -o /dev/null http://127.0.0.1:8000/hookgate/hookgate.asc
}
# typed NAME: what a page says; every question is answered with yes, and the one line is filled in
typed() {
    {
        echo "nano() { sed -i 's/^domains = .*/domains = [\"proxy.example.com\"]/' \"\$1\"; }"
        sed 's#https://packages.example.com/#http://127.0.0.1:8000/#' "/srv/test/typed/$1"
    } >/run/typed
    sh -e /run/typed
}
# refused WORDS COMMAND…: it fails, and says so
refused() {
    words=$1
    shift
    if "$@" >/run/refusal 2>&1; then
        cat /run/refusal
        echo "it was taken"
        return 1
    fi
    cat /run/refusal
    grep -q "$words" /run/refusal
}
# The archive is out of reach, and no question can be answered.
offline() {
    rm -rf /etc/apt/sources.list /etc/apt/sources.list.d
    mkdir /etc/apt/sources.list.d
    echo 'APT::Get::Assume-Yes "true";' >/etc/apt/apt.conf.d/yes
}

# Types what the pages say about the package, on a Debian with systemd; after checks.sh and systemd.sh, whose words it uses.
letsencrypt=/etc/letsencrypt name=proxy.example.com
# As certbot lays it out: the key is for root alone.
(
    umask 077
    mkdir -p $letsencrypt/live/$name $letsencrypt/archive/$name
    cd $letsencrypt/live/$name
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=$name \
        -addext subjectAltName=DNS:$name -keyout ../../archive/$name/privkey1.pem \
        -out ../../archive/$name/fullchain1.pem 2>/dev/null
    chmod 0644 ../../archive/$name/fullchain1.pem
    for file in privkey fullchain; do
        ln -s ../../archive/$name/${file}1.pem $file.pem
    done
)

said_why() { "$@" || { journalctl --unit hookgate --output cat --no-pager --lines 10 && false; }; }

# typed NAME: the block that lies in /run/typed, where its page's last configuration lies too; and hookgate runs then. Where it
# does not install the package itself, that is there.
typed() {
    cd /run/typed
    cp /run/first.deb "hookgate_$(dpkg-deb -f /run/first.deb Version)_$(dpkg-deb -f /run/first.deb Architecture).deb"
    grep -q '^apt install' block || check "$1_package_is_there" dpkg -i /run/first.deb
    # An editor, and who fills in the one line.
    { echo "nano() { sed -i 's/^domains = .*/domains = [\"proxy.example.com\"]/' \"\$1\"; }" && cat block; } >with_editor
    check "$1" said_why sh -e ./with_editor
    check "$1_leaves_it_running" retry_until 20 active
    cd /
    check "$1_can_be_purged" dpkg -P hookgate
    rm -rf /run/typed
}

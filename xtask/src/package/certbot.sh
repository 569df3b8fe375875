# certbot gets and renews a certificate through hookgate's own http listener, and hookgate, which is not root, shows it.
check authority_starts start_authority
check installs dpkg -i /run/first.deb
live=/etc/letsencrypt/live/proxy.example.com
mkdir -p /var/www/html
# configure [LINE…]: with these lines more
configure() {
    printf '%s\n' '[listen]' 'http = ["0.0.0.0:80"]' '[acme]' 'webroot = "/var/www/html"' '[admin]' \
        'listen = "127.0.0.1:9432"' '[upstreams]' "$@" >$toml
}
certbot_gets() {
    certbot certonly --non-interactive --agree-tos --register-unsafely-without-email --webroot -w /var/www/html \
        --server https://localhost:14000/dir --no-verify-ssl -d "$1"
}
serial() { openssl x509 -noout -serial -in $live/cert.pem; }
shown() {
    openssl s_client -connect 127.0.0.1:443 -servername proxy.example.com </dev/null 2>/dev/null | openssl x509 -noout -serial
}
shows_its_own() { equal "$(shown)" "$(serial)"; }

configure
check starts_without_https start
check certbot_gets_one certbot_gets proxy.example.com
check certbot_gets_another certbot_gets other.example.com
stop

configure '[tls]' "cert = \"$live/fullchain.pem\"" "key = \"$live/privkey.pem\""
sed -i 's/^http = .*/&\nhttps = ["0.0.0.0:443"]/' $toml
chmod 0600 /etc/letsencrypt/archive/proxy.example.com/privkey1.pem
chgrp -R root /etc/letsencrypt/archive
check key_of_root_alone_is_refused not start
check and_the_words_say_what_to_do grep -q "cannot read $live/.*grant-keys" /run/log
check access_is_given /usr/lib/hookgate/grant-keys
check starts_with_certbots_key start
check shows_certbots_certificate shows_its_own
first=$(shown)
check certbot_renews certbot renew --non-interactive --force-renewal --no-random-sleep-on-renew --no-verify-ssl
check renewed_one_is_another not equal "$(serial)" "$first"
check renewed_one_is_shown retry_until 10 shows_its_own
check keys_are_the_groups mode "$(readlink -f $live/privkey.pem)" 'root:hookgate 640'
check other_keys_are_not mode "$(readlink -f /etc/letsencrypt/live/other.example.com/privkey.pem)" 'root:root 600'
check others_see_nothing mode /etc/letsencrypt/live 'root:hookgate 710'
stop
check purges dpkg -P hookgate
check keys_are_roots_again equal "$(find /etc/letsencrypt/live /etc/letsencrypt/archive ! -group root -o -name 'privkey[0-9]*' -perm /077)" ""

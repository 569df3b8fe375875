# From a bare machine to the first webhook: by how many commands, and in how many seconds.
start_stopwatch
type_in dpkg -i /run/first.deb
name_authority
type_in sed -i 's/^domains = .*/domains = ["proxy.example.com"]/' $toml
type_in hookgate upstream add --address 127.0.0.1:3000 --no-tls chatwoot.example.com
type_in start # systemctl enable --now hookgate
stop_stopwatch
[ -f /run/log ] && grep -i acme /run/log
stop
ran package "$system" "$measured; installed, upgraded, removed, purged; certbot's certificates"

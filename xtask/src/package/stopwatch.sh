# From a bare machine to the first webhook over a valid certificate: by how many commands, and in how many seconds.
check authority_starts start_authority
check receiver_starts start_receiver
typed=0
type_in() {
    typed=$((typed + 1))
    check "stopwatch_$typed" "$@"
}
arrived() {
    equal "$(curl -s --cacert /run/authority/root.pem --resolve proxy.example.com:443:127.0.0.1 -o /dev/null \
        -w '%{http_code}' -d '{}' https://proxy.example.com/chatwoot.example.com/webhooks/whatsapp)" 200
}

began=$(date +%s)
type_in dpkg -i /run/first.deb
# In place of Let's Encrypt; nobody types this.
sed -i "/^domains/a directory = \"https://localhost:14000/dir\"\nca = \"/run/authority/tls.crt\"" $toml
type_in sed -i 's/^domains = .*/domains = ["proxy.example.com"]/' $toml
type_in hookgate upstream add --address 127.0.0.1:3000 --no-tls chatwoot.example.com
type_in start # systemctl enable --now hookgate
check first_webhook_arrives retry_until 120 arrived
echo "stopwatch: $typed commands, $(($(date +%s) - began)) seconds"
check at_most_five_commands [ $typed -le 5 ]
[ -f /run/log ] && grep -i acme /run/log
stop

# apt installs, upgrades and goes back, over HTTP and from a folder, and refuses what is not as it was signed.
echo "$(apt --version), $first and $second"
offline
sources=/etc/apt/sources.list.d/hookgate.sources
publish before
check is_served serve

# As the page has it
check installs typed install_from_the_apt_repository
check runs_after_it retry_until 20 active
check is_the_first_version is_version "$first"
check no_upstream_is_404 answers / 404
check key_is_read_by_all mode /etc/apt/keyrings/hookgate.asc 'root:root 644'
check unit_is_enabled systemctl is-enabled hookgate
check receiver_starts start_receiver
check receiver_is_added hookgate upstream add --address 127.0.0.1:3000 --no-tls --no-probe receiver.example.com
check allowed_host_is_200 answers /receiver.example.com/x 200

publish after
parent=$(main)
check load_starts start_load /receiver.example.com/webhooks
check upgrades typed install_upgrading_and_going_back_1
check is_the_second_version is_version "$second"
check runs_another retry_until 20 another_is_active
check former_one_ends retry_until 60 not test -e "/proc/$parent"
check upgrade_failed_no_request stop_load 20
check configuration_is_kept grep -q '^domains = ."proxy.example.com".' $toml
check goes_back typed install_upgrading_and_going_back_2
check is_the_first_version_again is_version "$first"
check runs_after_that_too retry_until 20 active
check is_held sh -c 'apt-mark showhold | grep -q hookgate'
apt-get upgrade >/dev/null 2>&1
check stays_there is_version "$first"
apt-mark unhold hookgate >/dev/null

# The other architecture's list
dpkg --add-architecture arm64
check lists_the_other_architecture apt-get update
cd /run && check has_the_other_architecture apt-get download "hookgate:arm64=$second"
dpkg --remove-architecture arm64

# From a folder
sed -i 's#^URIs:.*#URIs: file:/srv/www/hookgate#' $sources
check reads_a_folder apt-get update
check upgrades_from_a_folder apt-get install hookgate
check is_the_second_version_then is_version "$second"
check runs_after_that retry_until 20 active
check purges apt-get purge hookgate

# What is refused, over HTTP, on a machine that has nothing yet.
sed -i 's#^URIs:.*#URIs: http://127.0.0.1:8000/hookgate#' $sources
anew() { rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb; }
is_not_installed() { not apt-get install hookgate && not test -e /usr/bin/hookgate; }
publish after
anew
check good_one_is_taken apt-get update
check and_it_has_the_package sh -c 'apt-cache policy hookgate | grep -q "Candidate: [0-9]"'

publish after
find /srv/www/hookgate/dists \( -name 'Packages*' -o -path '*/by-hash/*' \) -type f -exec sh -c 'printf " " >>"$1"' sh {} \;
anew
check changed_list_is_refused refused 'Hash Sum mismatch\|unexpected size' apt-get update
check nothing_comes_of_a_changed_list is_not_installed

publish after
for deb in /srv/www/hookgate/pool/main/h/hookgate/*.deb; do
    printf '\377' | dd of="$deb" bs=1 seek=1000 conv=notrunc 2>/dev/null
done
anew
check list_of_changed_packages_is_taken apt-get update
check changed_package_is_refused refused 'Hash Sum mismatch' apt-get install hookgate
check nothing_comes_of_a_changed_package not test -e /usr/bin/hookgate

publish after
sed -i 's/^Label: .*/Label: another/' /srv/www/hookgate/dists/stable/InRelease
anew
check changed_release_is_refused refused 'BADSIG\|Bad signature\|bad signature\|not signed\|digest' apt-get update
check nothing_comes_of_a_changed_release is_not_installed

publish other
anew
check other_key_is_refused refused 'NO_PUBKEY\|Missing key' apt-get update
check nothing_comes_of_another_key is_not_installed

publish after
rm /srv/www/hookgate/dists/stable/InRelease /srv/www/hookgate/dists/stable/Release.gpg
anew
check unsigned_one_is_refused refused 'is not signed' apt-get update
check nothing_comes_of_an_unsigned_one is_not_installed

ran apt "$system" "installed from the repository over HTTP, upgraded without a failed request, gone back, installed from a folder; a \
changed list, package and release, another key and no signature refused"

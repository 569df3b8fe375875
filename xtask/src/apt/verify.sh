# What docs/verify.md has a user type, with what is right and with what is not.
offline
publish after
check is_served serve
download_and_verify() {
    rm -rf /run/downloads
    mkdir /run/downloads
    cd /run/downloads && typed verify_files_by_hand
}
show_key() {
    mkdir /run/key
    cd /run/key && typed verify_the_key
}
check shows_the_key show_key
cp /run/said /run/shown
check with_its_fingerprint grep -Eq '([0-9A-F]{4} +){9}[0-9A-F]{4}' /run/shown
check verifies download_and_verify
cp /run/said /run/verified
check says_whose_key_it_is grep -q 'ours@example.com' /run/verified
check says_that_the_signature_is_good grep -q 'Good signature' /run/verified
check says_that_the_package_is_right grep -q "hookgate_${first}_amd64.deb: OK" /run/verified

printf '\377' | dd of="$(echo /srv/www/hookgate/pool/main/h/hookgate/hookgate_"${first}"_amd64.deb)" bs=1 seek=1000 conv=notrunc 2>/dev/null
check refuses_a_changed_package refused 'amd64.deb: FAILED' download_and_verify
publish after
sed -i '1s/^./x/' /srv/www/hookgate/SHA256SUMS
check refuses_changed_sums refused 'BAD signature' download_and_verify
publish after
cp /srv/test/other/SHA256SUMS /srv/test/other/SHA256SUMS.asc /srv/www/hookgate
check refuses_sums_of_another_key refused "Can't check signature" download_and_verify
ran verify "$system" "docs/verify.md: takes what is right; a changed package, changed sums and another key are refused"

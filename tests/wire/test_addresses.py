"""Tests of `p2pshare.wire.addresses`: the table of rejected addresses (threat 13)."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.wire.addresses import PeerAddress, address_fault, endpoint_fault, is_loopback

IPV4 = st.integers(0, 2**32 - 1)
IPV6 = st.integers(0, 2**128 - 1)
HALF = st.integers(0, 2**64 - 1)


def accepts(number: int) -> bool:
    """Whether the table accepts an IPv6 address."""
    ip = ipaddress.IPv6Address(number)
    return endpoint_fault(f"[{ip}]:50000") is None


class TableTests(SynchronousTestCase):
    def test_accepted(self) -> None:
        """Public, private and loopback addresses of one machine are accepted in their canonical form."""
        for good in (
            "10.0.0.5:1", "127.0.0.1:65535", "192.168.1.2:80", "100.64.0.1:1", "8.8.8.8:53", "198.18.0.1:1",
            "[2001:db8::5]:50000", "[::1]:80", "[fd00::1]:1", "[2600::1]:1", "[2002:808:808::1]:1",
        ):  # fmt: skip
            self.assertIsNone(endpoint_fault(good), good)

    def test_spelling(self) -> None:
        """Another form of an address or a port is rejected."""
        for bad in (
            "", ":", "10.0.0.5", "10.0.0.5:", "10.0.0.5:0", "10.0.0.5:65536", "10.0.0.5:080",
            "10.0.0.5:8 0", "10.0.0.5:²", "10.0.0.5:٣", "10.0.0.005:1", "2001:db8::5:1", "[10.0.0.5]:1",
            "host:1", "[2001:DB8::5]:1", "[2001:db8:0::5]:1", "[2001:0db8::5]:1", "10.0.0.5:1:2",
            "[10.0.0.5:1", "10.0.0.5]:1", "10.0.0.5:99999999999999999999", "10.5:1", "0xa000005:1",
            "167772165:1", " 10.0.0.5:1", "10.0.0.5:1\n", "10.0.0.5:+1", "[[::1]]:1", "[::1]", "::1:80",
        ):  # fmt: skip
            self.assertIn("IP:PORT", endpoint_fault(bad) or "", bad)

    def test_refused(self) -> None:
        """Each kind of rejected address has its reason."""
        for ip, reason in (
            ("0.0.0.0", "reader's own"), ("0.1.2.3", "reader's own"), ("169.254.169.254", "link-local"),
            ("192.0.0.2", "protocol"), ("192.88.99.1", "relays"), ("224.0.0.1", "multicast"),
            ("239.255.255.255", "multicast"), ("240.0.0.1", "reserved"), ("255.255.255.255", "broadcast"),
            ("::", "unspecified"), ("::7f00:1", "compatible"), ("::ffff:7f00:1", "mapped"),
            ("::ffff:0:7f00:1", "translated"), ("64:ff9b::7f00:1", "NAT64"), ("64:ff9b:1::7f00:1", "NAT64"),
            ("2001::7f00:1", "Teredo"), ("2001:2::1", "protocol"), ("2001:20::1", "protocol"),
            ("2002:7f00:1::", "6to4"), ("2002:a9fe:a9fe::1", "6to4"), ("2002:a00:1::1", "6to4"),
            ("2001:db8::5efe:7f00:1", "ISATAP"), ("2001:db8::200:5efe:808:808", "ISATAP"),
            ("fd00::5efe:7f00:1", "ISATAP"), ("fe80::1", "link-local"), ("febf::1", "link-local"),
            ("fec0::1", "site-local"), ("ff02::1", "multicast"), ("ff0e::1", "multicast"),
            ("100::1", "neither"), ("5f00::1", "neither"), ("4000::1", "neither"), ("fe00::1", "neither"),
            ("::2", "compatible"), ("1::1", "neither"),
        ):  # fmt: skip
            self.assertIn(reason, address_fault(ip) or "", ip)
            shown = f"[{ip}]" if ":" in ip else ip
            self.assertIsNotNone(endpoint_fault(f"{shown}:80"), ip)
        for zone in ("fe80::1%eth0", "2001:db8::1%1", "::1%lo"):
            self.assertEqual(endpoint_fault(f"[{zone}]:80"), "names a zone", zone)

    def test_loopback(self) -> None:
        """Loopback addresses, 127.0.0.0/8 and ::1, are recognized and not rejected."""
        for ip, expected in (
            ("127.0.0.1", True),
            ("127.255.255.255", True),
            ("::1", True),
            ("128.0.0.1", False),
        ):
            self.assertEqual((is_loopback(ip), address_fault(ip)), (expected, None))


class PeerAddressTests(SynchronousTestCase):
    @given(st.ip_addresses(), st.integers(1, 65535))
    def test_both_families(
        self, ip: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int
    ) -> None:
        """An address of either family is read back from its text, and has no other text."""
        address = PeerAddress(str(ip), port)
        self.assertEqual(PeerAddress.parse(str(address)), address)
        self.assertEqual(address.is_ipv6, ip.version == 6)
        for other in (f"{ip.exploded}:{port}", f"[{ip}]:0{port}", f" {address}"):
            if other != str(address):
                self.assertRaises(ValueError, PeerAddress.parse, other)


class AnyAddressTests(SynchronousTestCase):
    @given(IPV4, HALF, HALF)
    def test_carried(self, ipv4: int, high: int, low: int) -> None:
        """An IPv6 address that carries an IPv4 address is rejected."""
        for prefix in ("::ffff:0:0", "::ffff:0:0:0", "64:ff9b::", "64:ff9b:1::", "fe80::5efe:0:0"):
            self.assertFalse(accepts(int(ipaddress.IPv6Address(prefix)) | ipv4), prefix)
        if ipv4 != 1:
            self.assertFalse(accepts(ipv4))
        teredo = int(ipaddress.IPv6Address("2001::"))
        self.assertFalse(accepts(teredo | ipv4 << 64 | low))
        self.assertFalse(accepts(teredo | high & 0xFFFFFFFF << 32 | ipv4 ^ 0xFFFFFFFF))
        for interface in (0x5EFE, 0x200_5EFE):
            self.assertFalse(accepts(high << 64 | interface << 32 | ipv4))
        six_to_four = 0x2002 << 112 | ipv4 << 80
        carried = ipaddress.IPv4Address(ipv4)
        if not carried.is_global or carried.is_multicast:
            self.assertFalse(accepts(six_to_four | low >> 16), carried)

    @given(IPV6)
    def test_one_machine(self, number: int) -> None:
        """An accepted IPv6 address is unicast by the standard library, too."""
        ip = ipaddress.IPv6Address(number)
        if accepts(number) and number != 1:
            self.assertIn(number >> 121, {*range(0x10, 0x20), 0x7E}, "2000::/3 and fc00::/7")
            self.assertFalse(
                ip.is_multicast or ip.is_link_local or ip.is_site_local or ip.is_reserved
            )
            self.assertIsNone(ip.ipv4_mapped or ip.teredo)

    @given(IPV4)
    def test_one_ipv4_machine(self, number: int) -> None:
        """An accepted IPv4 address is unicast by the standard library, too."""
        ip = ipaddress.IPv4Address(number)
        if endpoint_fault(f"{ip}:1") is None:
            self.assertFalse(
                ip.is_multicast or ip.is_link_local or ip.is_reserved or ip.is_unspecified
            )

    @given(
        st.one_of(
            st.text(), st.from_regex(r"\[?[0-9a-fA-F.:%]{0,40}\]?:[0-9]{0,6}", fullmatch=True)
        )
    )
    def test_one_form(self, text: str) -> None:
        """Any text gets a verdict, and an accepted text is canonical."""
        if endpoint_fault(text) is None:
            host, _, port = text.rpartition(":")
            ip = ipaddress.ip_address(host.strip("[]"))
            self.assertEqual(
                text, f"[{ip}]:{int(port)}" if ip.version == 6 else f"{ip}:{int(port)}"
            )

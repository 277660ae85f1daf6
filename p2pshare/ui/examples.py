"""What the pages of help show."""

from __future__ import annotations

DESCRIPTION = """\
Share files with named people, straight from one machine to another.

Without a verb it asks for your name, whom to get a file from, and which one;
meanwhile it shares the my_file.txt and my_file.jpg of the current folder."""

EXAMPLES = """\
examples:
  p2pshare --name carol                        the dialog, as carol
  p2pshare users                               who is there
  p2pshare get alice:my_file.txt               alice's text, as alice.txt
  p2pshare get alice:my_file.jpg ~/Pictures    alice's picture, into a folder
  p2pshare whoami                              your name and your key
  p2pshare demo                                all of it, on this machine

Settings come from flags, then P2PSHARE_... variables, then config.toml. Exit
codes: 0 done, 1 failed, 2 wrong usage, 3 refused, 4 not found, 5 unreachable."""

GET_EXAMPLES = """\
examples:
  p2pshare get alice:my_file.txt               saved as alice.txt
  p2pshare get alice:my_file.jpg holiday.png   saved as holiday.png
  p2pshare get alice:my_file.txt bob:my_file.jpg Downloads

PEER is a name that `p2pshare users` shows. A picture is saved with exactly the
pixels that were sent: as PNG, or as .webp, .bmp, .tiff or .ppm if DEST says so."""

USERS_EXAMPLES = """\
examples:
  p2pshare users                               everybody, by name
  p2pshare users --online --prefix al          who of al... is there
  p2pshare users --watch                       kept up to date until Ctrl+C

A name that is "owned" belongs to a key. For a "classic" one nobody vouches,
and nobody knows whether its peer is there."""

KEY_EXAMPLES = """\
examples:
  p2pshare key export ~/usb/bob.key            a copy that a passphrase opens
  p2pshare key import ~/usb/bob.key            on a new disk or machine
  p2pshare key rotate                          a new key, signed by the old
  p2pshare key forget alice                    meet alice anew

Who has your key has your name, and who loses it loses the name."""

EXPORT_EXAMPLES = """\
examples:
  p2pshare key export ~/usb/bob.key
  pass show p2pshare | p2pshare key export bob.key --passphrase-file -

Keep the file where the disk of this machine is not. It needs the passphrase."""

IMPORT_EXAMPLES = """\
examples:
  p2pshare key import ~/usb/bob.key
  p2pshare key import bob.key --registry http://192.0.2.1:8000

Name and registry come from the file, unless they are given. Use a key on one
machine at a time. A key that is there already is never replaced."""

ROTATE_EXAMPLES = """\
examples:
  p2pshare key rotate
  p2pshare key rotate --name bob

Do so if somebody may have read the old key. Export the new one afterwards."""

FORGET_EXAMPLES = """\
examples:
  p2pshare key forget alice

Do so when alice has told you in another way that her new key is the right one."""

RELEASE_EXAMPLES = """\
examples:
  p2pshare release                             asks before it does it
  p2pshare release --name bob --yes            does not

Just stopping a peer keeps its name: 30 days, and longer if it comes back."""

INVITE_EXAMPLES = """\
examples:
  p2pshare invite                              one, for 7 days
  p2pshare invite --count 20 --expires 12h     twenty, a line each
  p2pshare invite --data /var/lib/p2pregistry  of a registry with this folder

For the operator of a registry, on its machine. Each is good for one new name."""

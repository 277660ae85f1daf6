"""What the pages of help show."""

from __future__ import annotations

DESCRIPTION = """\
Share files with named people, straight from one machine to another, encrypted.

Without a verb it asks for your name, whom to get files from, and which ones;
meanwhile it shares what --share says, or the current folder's my_file.*."""

EXAMPLES = """\
examples:
  p2pshare --name carol --share ~/Public       the dialog, as carol
  p2pshare users                               who is there
  p2pshare ls alice                            what alice shares with you
  p2pshare get alice:photos/cat.jpg            a file, as cat.jpg
  p2pshare get alice:photos ~/Pictures         a folder, into another one
  p2pshare whoami                              your name and your key
  p2pshare demo                                all of it, on this machine

Settings come from flags, then P2PSHARE_... variables, then config.toml. Exit
codes: 0 done, 1 failed, 2 wrong usage, 3 refused, 4 not found, 5 unreachable."""

LS_EXAMPLES = """\
examples:
  p2pshare ls alice                            her shares
  p2pshare ls alice:photos                     what is in one of them
  p2pshare ls -R alice:photos                  and below
  p2pshare ls alice:photos | cut -f1           paths, one a line

PEER is a name that `p2pshare users` shows. Say who you are with --name."""

GET_EXAMPLES = """\
examples:
  p2pshare get alice:photos/cat.jpg            saved as cat.jpg
  p2pshare get alice:photos/cat.jpg tom.jpg    saved as tom.jpg
  p2pshare get alice:photos ~/Pictures         as ~/Pictures/photos, whole
  p2pshare get 'alice:photos/*.jpg' bob:notes.txt Downloads
  p2pshare get --classic bob:my_file.jpg       the picture, as bob.png
  p2pshare get --list-partial ~/Pictures       what stopped transfers left
  p2pshare get --clean ~/Pictures              remove that

Say who you are with --name, for a sharer wants to know who asks. What was
stopped, by Ctrl+C too, goes on when the same is said again."""

PEERS_EXAMPLES = """\
examples:
  p2pshare peers                               names and keys
  p2pshare peers forget alice                  meet alice anew

A key is remembered at the first contact. Compare it with what its owner says
`p2pshare whoami` shows."""

REGISTRIES_EXAMPLES = """\
examples:
  p2pshare registries                                URLs and keys
  p2pshare registries forget http://192.0.2.1:8000   accept its next key

A registry is known by the key that it proves at the first contact, at whatever
URL it is reached. Its own `GET /v1/` and its log show the key."""

FORGET_REGISTRY_EXAMPLES = """\
examples:
  p2pshare registries forget http://192.0.2.1:8000

Do this only after its operator has confirmed the new key."""

STATUS_EXAMPLES = """\
examples:
  p2pshare status
  p2pshare status --json

It asks the peer of your name that runs on this machine."""

STOP_EXAMPLES = """\
examples:
  p2pshare stop --name bob

It ends the peer of your name that runs on this machine, in the background or
in another terminal. Others see you offline at once."""

COMPLETION_EXAMPLES = """\
examples:
  eval "$(p2pshare completion bash)"           in ~/.bashrc
  eval "$(p2pshare completion zsh)"            in ~/.zshrc, after compinit
  p2pshare completion fish | source            in ~/.config/fish/config.fish

Names and remote paths are completed, best while a peer of yours runs."""

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
  p2pshare peers forget alice

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

"""The scripts for the shells; they only run `p2pshare complete`.

Strangers choose the names that are offered. There is one candidate per line, without any character that a terminal
obeys. The shell, or for bash `shell_words.py`, quotes a candidate when it is inserted, and no script evaluates one.
"""

from __future__ import annotations

BASH = r"""# p2pshare completion for bash
_p2pshare() {
    local line how= program=${COMP_WORDS[0]}
    type -P "$program" >/dev/null || program=p2pshare
    COMPREPLY=()
    while IFS= read -r line; do
        if [[ -z $how ]]; then how=$line; else COMPREPLY+=("$line"); fi
    done < <("$program" complete bash "${COMP_LINE:0:COMP_POINT}" "$COMP_WORDBREAKS" 2>/dev/null)
    case $how in
        paths) compopt -o filenames -o noquote 2>/dev/null ;;
        part) compopt -o nospace 2>/dev/null ;;
        files) compopt -o default 2>/dev/null ;;
        folders) compopt -o dirnames 2>/dev/null ;;
    esac
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[/:] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -F _p2pshare p2pshare
"""

ZSH = r"""#compdef p2pshare
# p2pshare completion for zsh
_p2pshare() {
    local -a typed lines open closed
    local program=${(Q)words[1]}
    (( $+commands[$program] )) || [[ -x $program ]] || program=p2pshare
    typed=("${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}")
    (( CURRENT > 1 )) || return 1
    lines=("${(@f)$("$program" complete zsh "${(@)typed}" 2>/dev/null)}")
    if [[ ${lines[1]} == files ]]; then
        _files
        return
    elif [[ ${lines[1]} == folders ]]; then
        _files -/
        return
    fi
    shift lines
    open=("${(@M)lines:#*[/:]}")
    closed=("${(@)lines:#*[/:]}")
    closed=("${(@)closed:#}")
    (( $#open )) && compadd -S '' -- "${(@)open}"
    (( $#closed )) && compadd -- "${(@)closed}"
    (( $#open + $#closed ))
}
if [[ ${funcstack[1]} == _p2pshare ]]; then
    _p2pshare "$@"
elif (( $+functions[compdef] )); then
    compdef _p2pshare p2pshare
fi
"""

FISH = r"""# p2pshare completion for fish
function __p2pshare_complete
    set -l typed (commandline -opc)
    set -l program $typed[1]
    set -e typed[1]
    command -q -- $program; or set program p2pshare
    set -l current (commandline -ct)
    set -l plain (string unescape -- $current 2>/dev/null)
    or set plain $current
    set -l lines ($program complete fish $typed "$plain" 2>/dev/null)
    if test "$lines[1]" = files
        __fish_complete_path "$plain"
    else if test "$lines[1]" = folders
        __fish_complete_directories "$plain" ''
    else if set -q lines[2]
        printf '%s\n' $lines[2..-1]
    end
end
complete -c p2pshare -f -a '(__p2pshare_complete)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}

"""The scripts by which shells complete words of `p2pshare`; all they know is how to ask `p2pshare complete`.

What is offered may be named by strangers. It comes one candidate a line, without any character that a terminal or a
shell would obey by itself, and is quoted by the shell's own rules for file names as it goes into the line.
"""

from __future__ import annotations

BASH = r"""# p2pshare completion for bash: eval "$(p2pshare completion bash)"
_p2pshare() {
    local line how=
    COMPREPLY=()
    while IFS= read -r line; do
        if [[ -z $how ]]; then how=$line; else COMPREPLY+=("$line"); fi
    done < <("${COMP_WORDS[0]}" complete bash "$COMP_LINE" "$COMP_POINT" "$COMP_WORDBREAKS" 2>/dev/null)
    case $how in
        paths*) compopt -o filenames 2>/dev/null ;;
        files*) compopt -o default 2>/dev/null ;;
    esac
    case $how in *+) compopt -o nospace 2>/dev/null ;; esac
}
complete -F _p2pshare p2pshare
"""

ZSH = r"""#compdef p2pshare
# p2pshare completion for zsh: after compinit, eval "$(p2pshare completion zsh)"
_p2pshare() {
    local -a lines typed
    local how
    typed=("${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}")
    lines=("${(@f)$("${typed[1]}" complete zsh "${(@)typed[2,-1]}" 2>/dev/null)}")
    how=${lines[1]}
    lines=("${(@)lines[2,-1]}")
    case $how in
        files*) _files; return ;;
    esac
    (( $#lines )) || return 1
    case $how in
        *+) compadd -S '' -- "${(@)lines}" ;;
        *) compadd -- "${(@)lines}" ;;
    esac
}
if (( $+functions[compdef] )); then compdef _p2pshare p2pshare; fi
"""

FISH = r"""# p2pshare completion for fish: p2pshare completion fish | source
function __p2pshare_complete
    set -l typed (commandline -opc)
    set -l program $typed[1]
    set -e typed[1]
    set -l current (commandline -ct)
    set -l plain (string unescape -- $current 2>/dev/null)
    or set plain $current
    set -l lines ($program complete fish $typed "$plain" 2>/dev/null)
    set -l how $lines[1]
    set -e lines[1]
    switch "$how"
        case 'files*'
            __fish_complete_path "$plain"
        case '*'
            printf '%s\n' $lines
    end
end
complete -c p2pshare -f -a '(__p2pshare_complete)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}

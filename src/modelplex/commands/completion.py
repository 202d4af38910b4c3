"""Completions for bash, zsh and fish, from the rows of the parser. Each script holds all commands
and options as of its release, so that a key press starts no process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from modelplex.commands.parser_rows import ArgumentRow, CommandRow

FILES: Final = frozenset({"FILE", "PATH", "PLACE"})
"""Metavars of values that are files."""

AGENT_FLAG: Final = "--agent"
"""Takes a name of [[agents]]."""
_READ_AGENTS: Final = (
    r"""awk '/^\[/ { on = /^\[\[agents\]\]/ } on && /^name *=/ { split($0, part, "\""); print part[2] }' """
    "config.toml 2>/dev/null"
)

_BASH: Final = """\
# Completions of modelplex for bash: eval "$(modelplex completion bash)"
_modelplex() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command=modelplex value= i
  # "--option=value" is three words here.
  if [[ $cur == "=" ]]; then cur=
  elif [[ $prev == "=" ]]; then prev=${COMP_WORDS[COMP_CWORD-2]}
  fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    if [[ ${COMP_WORDS[i]} == "=" ]]; then value=1; continue; fi
    if [[ $value ]]; then value=; continue; fi
    case "$command ${COMP_WORDS[i]}" in
      @VALUED@) value=1 ;;
      @COMMANDS@) command="$command ${COMP_WORDS[i]}" ;;
      @PROGRAMS@)
        [[ ${COMP_WORDS[i]} == -- ]] && ((i++))
        if declare -F _command_offset >/dev/null; then _command_offset $i
        elif ((i == COMP_CWORD)); then COMPREPLY=($(compgen -c -- "$cur"))
        else COMPREPLY=($(compgen -f -- "$cur"))
        fi
        return ;;
    esac
  done
  local words= files= programs=
  case "$command $prev" in
@VALUES@
    *) case $command in
@WORDS@
    esac ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  if [[ $programs && $cur != -* ]]; then COMPREPLY+=($(compgen -c -- "$cur")); fi
  if [[ $files ]]; then COMPREPLY+=($(compgen -f -- "$cur")); compopt -o filenames 2>/dev/null; fi
}
complete -F _modelplex modelplex
"""

_FISH: Final = """\
# Completions of modelplex for fish: modelplex completion fish > ~/.config/fish/completions/modelplex.fish
function __modelplex_command
    # The command so far, and after "|" the words of a program that follows it.
    set -l command modelplex
    set -l words (commandline -opc)
    set -l value
    for i in (seq 2 (count $words))
        if test -n "$value"
            set value
            continue
        end
        switch "$command $words[$i]"
            case @VALUED@
                set value 1
            case @COMMANDS@
                set command "$command $words[$i]"
            case @SWITCHES@
                # fish has no pattern for "does not begin with"
            case @PROGRAMS@
                test "$words[$i]" = --; and set i (math $i + 1)
                set -l program (string join ' ' -- $words[$i..-1])
                echo "$command|$program"
                return
        end
    end
    echo $command
end
function __modelplex_agents
    @AGENTS@
end
function __modelplex_at
    test (__modelplex_command) = $argv[1]
end
function __modelplex_runs
    string match -q '*|*' -- (__modelplex_command)
end
function __modelplex_program
    set -l words (string split -m 1 '|' -- (__modelplex_command))[2]
    complete -C (string trim -l -- "$words "(commandline -ct))
end
complete -c modelplex -f
complete -c modelplex -n __modelplex_runs -a '(__modelplex_program)'
"""


def completion(row: CommandRow, shell: str) -> str:
    """The script for a shell; `row` is the whole command line. Raises KeyError for another
    shell.
    """
    makers: Mapping[str, Callable[[CommandRow], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
    return makers[shell](row)


def _has_value(argument: ArgumentRow) -> bool:
    return bool(argument.metavar or argument.values)


# --- the words that lead from one command to the next, for bash and fish


def _valued(row: CommandRow, between: str) -> str:
    """Patterns of a command and an option that takes a value."""
    found = [
        f'"{each.name} {flag}"'
        for each in row.all()
        for option in each.options
        if _has_value(option)
        for flag in option.flags
    ]
    return between.join(found)


def _commands(row: CommandRow, between: str) -> str:
    return between.join(f'"{each.name}"' for each in row.all() if each is not row)


def _programs(row: CommandRow, patterns: Sequence[str], between: str) -> str:
    """Patterns of a command and the first word of the program that it runs."""
    running = [each.name for each in row.all() if each.runs_a_program]
    return between.join(pattern.format(name) for name in running for pattern in patterns)


# --- bash


def _bash(row: CommandRow) -> str:
    values: list[str] = []
    words: list[str] = []
    for each in row.all():
        for option in each.options:
            if _has_value(option):
                keys = " | ".join(f'"{each.name} {flag}"' for flag in option.flags)
                values.append(f"    {keys}) {_bash_offer([option])} ;;")
        named = [flag for option in each.options for flag in option.flags if flag.startswith("--")]
        named += [below.word for below in each.commands]
        named += each.offered
        programs = " programs=1" if each.runs_a_program else ""
        words.append(f'    "{each.name}") {_bash_offer(each.arguments, named)}{programs} ;;')
    return (
        _BASH.replace("@VALUED@", _valued(row, " | "))
        .replace("@COMMANDS@", _commands(row, " | "))
        # The first word that is no option, or "--".
        .replace("@PROGRAMS@", _programs(row, ('"{} --"', '"{} "[!-]*'), " | "))
        .replace("@VALUES@", "\n".join(values))
        .replace("@WORDS@", "\n".join(f"  {each}" for each in words))
    )


def _bash_offer(arguments: Sequence[ArgumentRow], named: Sequence[str] = ()) -> str:
    words = [*named, *(value for each in arguments for value in each.values)]
    words += [f"$({_READ_AGENTS})" for each in arguments if AGENT_FLAG in each.flags]
    files = any(each.metavar in FILES for each in arguments)
    return f"words={_bash_words(words)}" + (" files=1" if files else "")


def _bash_words(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 and words[0].startswith("$(") else f'"{" ".join(words)}"'


# --- zsh


def _zsh(row: CommandRow) -> str:
    lines = ["#compdef modelplex", '# Completions of modelplex for zsh: eval "$(modelplex completion zsh)"']
    for each in row.all():
        name = each.name.replace(" ", "_")
        specs = [_zsh_option(option) for option in each.options]
        specs += [f"':{a.metavar.lower()}:{_zsh_action(a)}'" for a in each.arguments]
        lines += [f"_{name}() {{", "  local state line"]
        if each.commands:
            specs += ["'1: :->command'", "'*:: :->rest'"]
        elif each.runs_a_program:
            specs += [_zsh_program(each), "'*::arguments:_normal'"]
        lines.append("  _arguments -S -C " + " ".join(f"\\\n    {spec}" for spec in specs))
        if each.commands:
            listed = " ".join(_zsh_quoted(f"{below.word}:{below.summary}") for below in each.commands)
            lines += [
                "  case $state in",
                f"    command) local -a commands=({listed}); _describe command commands ;;",
                f"    rest) (( $+functions[_{name}_$line[1]] )) && _{name}_$line[1] ;;",
                "  esac",
            ]
        lines.append("}")
    lines += ["_modelplex_agents() {", f"  {_READ_AGENTS}", "}", "compdef _modelplex modelplex"]
    return "\n".join(lines) + "\n"


def _zsh_program(row: CommandRow) -> str:
    if not row.offered:
        return "'(-)1:command:_command_names -e'"
    offered = f'"agents:agent:({" ".join(row.offered)})"'
    return f"'(-)1:command:_alternative {offered} \"commands:command:_command_names -e\"'"


def _zsh_option(option: ArgumentRow) -> str:
    help_ = _shown(option.help)
    for mark in "[]:":
        help_ = help_.replace(mark, f"\\{mark}")
    value = f":{option.metavar.lower() or 'value'}:{_zsh_action(option)}" if _has_value(option) else ""
    return " ".join(_zsh_quoted(f"*{flag}[{help_}]{value}") for flag in option.flags)


def _zsh_action(argument: ArgumentRow) -> str:
    if argument.values:
        return f"({' '.join(argument.values)})"
    if AGENT_FLAG in argument.flags:
        return '{compadd -- ${(f)"$(_modelplex_agents)"}}'
    return "_files" if argument.metavar in FILES else ""


def _zsh_quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


# --- fish


def _fish(row: CommandRow) -> str:
    script = (
        _FISH.replace("@VALUED@", _valued(row, " "))
        .replace("@COMMANDS@", _commands(row, " "))
        .replace("@AGENTS@", _READ_AGENTS)
        .replace("@SWITCHES@", _programs(row, ("'{} -?'", "'{} --?*'"), " "))
        .replace("@PROGRAMS@", _programs(row, ("'{} *'",), " "))
    )
    return script + "\n".join(line for each in row.all() for line in _fish_lines(each)) + "\n"


def _fish_lines(row: CommandRow) -> list[str]:
    at = f"complete -c modelplex -n '__modelplex_at \"{row.name}\"'"
    lines: list[str] = []
    for option in row.options:
        flags = " ".join(f"-l {f[2:]}" if f.startswith("--") else f"-s {f[1:]}" for f in option.flags)
        lines.append(f"{at} {flags}{_fish_value(option)} -d {_fish_quoted(_shown(option.help))}")
    lines += [f"{at} -a {below.word} -d {_fish_quoted(below.summary)}" for below in row.commands]
    for argument in row.arguments:
        if argument.values:
            lines.append(f"{at} -a {_fish_quoted(' '.join(argument.values))}")
        elif argument.metavar in FILES:
            lines.append(f"{at} -F")
    if row.runs_a_program:
        lines.append(f"{at} -a '(__fish_complete_command)'")
    if row.offered:
        lines.append(f"{at} -a {_fish_quoted(' '.join(row.offered))} -d agent")
    return lines


def _fish_value(option: ArgumentRow) -> str:
    if option.values:
        return f" -x -a {_fish_quoted(' '.join(option.values))}"
    if option.metavar in FILES:
        return " -r -F"
    if AGENT_FLAG in option.flags:
        return " -x -a '(__modelplex_agents)'"
    return " -x" if option.metavar else ""


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _shown(help_: str) -> str:
    """The first clause of a help text."""
    return help_.partition(";")[0].partition(" (default")[0]

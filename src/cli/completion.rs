//! `kina completion SHELL`: scripts that ask `kina __complete` what may stand at the cursor.

use super::context::Context;
use super::error::CliError;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Shells that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Shell {
    /// `source <(kina completion bash)`
    Bash,
    /// `source <(kina completion zsh)`
    Zsh,
    /// `kina completion fish | source`
    Fish,
    /// `kina completion powershell | Out-String | Invoke-Expression`
    Powershell,
}

/// Also with bash 3.2, which macOS has.
const BASH: &str = r#"# bash completion of kina; `source <(kina completion bash)`
_kina() {
    local line current="${COMP_WORDS[COMP_CWORD]}" kind=""
    COMPREPLY=()
    while IFS= read -r line; do
        if [[ -z "$kind" ]]; then kind="$line"; else COMPREPLY+=("${line%%$'\t'*}"); fi
    done < <("${COMP_WORDS[0]}" __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    if [[ "$kind" == ":files" ]]; then
        compopt -o filenames 2>/dev/null
        while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "${current#=}")
    elif [[ "${#COMPREPLY[@]}" == 1 && "${COMPREPLY[0]}" == *[=/] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -F _kina kina
"#;

const ZSH: &str = r#"#compdef kina
# zsh completion of kina; `source <(kina completion zsh)`, or as `_kina` in a directory of $fpath
_kina() {
    local line kind="" value
    local -a found
    while IFS= read -r line; do
        if [[ -z "$kind" ]]; then kind="$line"; continue; fi
        value="${line%%$'\t'*}"
        found+=("${value//:/\\:}:${line#*$'\t'}")
    done < <("${words[1]}" __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)
    if [[ "$kind" == ":files" ]]; then _files; else _describe -V 'kina' found; fi
}
if [[ "${funcstack[1]}" == "_kina" ]]; then _kina "$@"; else compdef _kina kina; fi
"#;

const FISH: &str = r#"# fish completion of kina; `kina completion fish | source`
function __kina_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l found (kina __complete -- $words[2..-1] "$current" 2>/dev/null)
    if test "$found[1]" = ":files"
        __fish_complete_path "$current"
    else
        printf '%s\n' $found[2..-1]
    end
end
complete -c kina -f -a '(__kina_complete)'
"#;

const POWERSHELL: &str = r#"# PowerShell completion of kina; `kina completion powershell | Out-String | Invoke-Expression`
Register-ArgumentCompleter -Native -CommandName kina -ScriptBlock {
    param($word, $ast, $position)
    $words = @($ast.CommandElements | Where-Object { $_.Extent.EndOffset -lt $position } | Select-Object -Skip 1 | ForEach-Object { $_.Extent.Text })
    $found = @(kina __complete -- @words "$word" 2>$null)
    if ($found.Count -eq 0 -or $found[0] -eq ':files') { return }
    $found | Select-Object -Skip 1 | ForEach-Object {
        $value, $meaning = $_ -split "`t", 2
        if (-not $meaning) { $meaning = $value }
        [System.Management.Automation.CompletionResult]::new($value, $value, 'ParameterValue', $meaning)
    }
}
"#;

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    context.printer.data(match args.shell {
        Shell::Bash => BASH,
        Shell::Zsh => ZSH,
        Shell::Fish => FISH,
        Shell::Powershell => POWERSHELL,
    })
}

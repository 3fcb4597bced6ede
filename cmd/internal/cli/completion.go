package cli

import (
	"fmt"
	"sort"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"
)

// The scripts ask the program itself, whose name stands for PROGRAM, with what has been typed so far and this flag at the
// end.
const (
	bashCompletion = `# bash completion of PROGRAM: source <(PROGRAM completion bash)
_PROGRAM() {
	local cur=${COMP_WORDS[COMP_CWORD]} typed=("${COMP_WORDS[@]:0:COMP_CWORD}")
	[[ $cur == -* ]] && typed+=("$cur")
	local IFS=$'\n'
	COMPREPLY=($(compgen -W "$("${typed[@]}" --generate-bash-completion 2>/dev/null)" -- "$cur"))
}
complete -o bashdefault -o default -F _PROGRAM PROGRAM
`
	zshCompletion = `#compdef PROGRAM
# zsh completion of PROGRAM: source <(PROGRAM completion zsh), or a file _PROGRAM in a directory of $fpath
_PROGRAM() {
	local cur=${words[CURRENT]}
	local -a typed choices
	typed=("${(@)words[1,CURRENT-1]}")
	[[ $cur == -* ]] && typed+=("$cur")
	choices=("${(@f)$(_CLI_ZSH_AUTOCOMPLETE_HACK=1 "${typed[@]}" --generate-bash-completion 2>/dev/null)}")
	if [[ -n ${choices[1]} ]]; then
		_describe PROGRAM choices
	else
		_files
	fi
}
if [[ ${funcstack[1]} == _PROGRAM ]]; then
	_PROGRAM "$@"
else
	compdef _PROGRAM PROGRAM
fi
`
)

const fishCompletion = `# fish completion of PROGRAM: PROGRAM completion fish | source
function __PROGRAM_choices
	set -l typed (commandline -opc)
	set -l cur (commandline -ct)
	if string match -q -- '-*' "$cur"
		set -a typed "$cur"
	end
	$typed --generate-bash-completion 2>/dev/null
end
complete -c PROGRAM -a '(__PROGRAM_choices)'
`

// CompletionCommand prints the completion scripts of the application that it belongs to.
func CompletionCommand() *cli.Command {
	shells := map[string]string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}
	var names []string
	for name := range shells {
		names = append(names, name)
	}
	sort.Strings(names)
	return &cli.Command{
		Name: "completion", Usage: "print the completion script of a shell, bash by default, to be sourced there", ArgsUsage: "[" + strings.Join(names, "|") + "]",
		BashComplete: func(c *cli.Context) { fmt.Fprintln(c.App.Writer, strings.Join(names, "\n")) },
		Action: func(c *cli.Context) error {
			if err := Args(c, 0, 1, "["+strings.Join(names, "|")+"]"); err != nil {
				return err
			}
			shell := c.Args().First()
			if shell == "" {
				shell = "bash"
			}
			script, ok := shells[shell]
			if !ok {
				return fmt.Errorf("no completion for %q: use one of %s: %w", shell, strings.Join(names, ", "), errdefs.ErrInvalidArgument)
			}
			_, err := fmt.Fprint(c.App.Writer, strings.ReplaceAll(script, "PROGRAM", c.App.Name))
			return err
		},
	}
}

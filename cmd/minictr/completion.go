package main

import (
	"fmt"
	"sort"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
)

// The scripts ask the program itself, with what has been typed so far and this flag at the end.
const (
	bashCompletion = `# bash completion of minictr: source <(minictr completion bash)
_minictr() {
	local cur=${COMP_WORDS[COMP_CWORD]} typed=("${COMP_WORDS[@]:0:COMP_CWORD}")
	[[ $cur == -* ]] && typed+=("$cur")
	local IFS=$'\n'
	COMPREPLY=($(compgen -W "$("${typed[@]}" --generate-bash-completion 2>/dev/null)" -- "$cur"))
}
complete -o bashdefault -o default -F _minictr minictr
`
	zshCompletion = `#compdef minictr
# zsh completion of minictr: source <(minictr completion zsh), or a file _minictr in a directory of $fpath
_minictr() {
	local cur=${words[CURRENT]}
	local -a typed choices
	typed=("${(@)words[1,CURRENT-1]}")
	[[ $cur == -* ]] && typed+=("$cur")
	choices=("${(@f)$(_CLI_ZSH_AUTOCOMPLETE_HACK=1 "${typed[@]}" --generate-bash-completion 2>/dev/null)}")
	if [[ -n ${choices[1]} ]]; then
		_describe minictr choices
	else
		_files
	fi
}
if [[ ${funcstack[1]} == _minictr ]]; then
	_minictr "$@"
else
	compdef _minictr minictr
fi
`
)

func completionCommand() *cli.Command {
	shells := map[string]func(*cli.App) (string, error){
		"bash": func(*cli.App) (string, error) { return bashCompletion, nil },
		"zsh":  func(*cli.App) (string, error) { return zshCompletion, nil },
		"fish": (*cli.App).ToFishCompletion,
	}
	var names []string
	for name := range shells {
		names = append(names, name)
	}
	sort.Strings(names)
	return &cli.Command{
		Name: "completion", Usage: "print the completion script of a shell: source <(minictr completion bash)", ArgsUsage: strings.Join(names, "|"),
		BashComplete: func(c *cli.Context) { fmt.Fprintln(c.App.Writer, strings.Join(names, "\n")) },
		Action: func(c *cli.Context) error {
			if err := icli.Args(c, 1, 1, strings.Join(names, "|")); err != nil {
				return err
			}
			script, ok := shells[c.Args().First()]
			if !ok {
				return fmt.Errorf("no completion for %q: use one of %s: %w", c.Args().First(), strings.Join(names, ", "), errdefs.ErrInvalidArgument)
			}
			text, err := script(c.App)
			if err == nil {
				_, err = fmt.Fprint(c.App.Writer, text)
			}
			return err
		},
	}
}

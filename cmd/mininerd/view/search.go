package view

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/oci/registry"
)

// Search is a row of search.
type Search struct {
	Name, Description, StarCount, IsOfficial, IsAutomated string
}

// SearchColumns are those of search.
const SearchColumns = `{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}`

// SearchHeader names the columns of search.
func SearchHeader() Search {
	return Search{Name: "NAME", Description: "DESCRIPTION", StarCount: "STARS", IsOfficial: "OFFICIAL", IsAutomated: "AUTOMATED"}
}

// SearchFilterKeys are those of search.
func SearchFilterKeys() []string { return []string{"is-automated", "is-official", "stars"} }

const maxDescription = 45

// SearchRows are the repositories that the filters let through, those with most stars first. host stands before their
// names; it is empty for Docker Hub.
func SearchRows(list []registry.Found, f Filters, host string, whole bool) ([]Search, error) {
	official, ofOfficial, err := f.flag("is-official")
	automated, ofAutomated, automatedErr := f.flag("is-automated")
	if err = cmp.Or(err, automatedErr); err != nil {
		return nil, err
	}
	stars := 0
	for _, text := range f["stars"] {
		if stars, err = strconv.Atoi(text); err != nil {
			return nil, fmt.Errorf("invalid filter 'stars=%s': a number: %w", text, errdefs.ErrInvalidArgument)
		}
	}
	sorted := slices.Clone(list)
	slices.SortStableFunc(sorted, func(a, b registry.Found) int { return cmp.Compare(b.Stars, a.Stars) })
	var rows []Search
	for _, one := range sorted {
		if ofOfficial && one.Official != official || ofAutomated && one.Automated != automated || one.Stars < stars {
			continue
		}
		r := Search{
			Name: one.Name, Description: strings.Join(strings.Fields(one.Description), " "), StarCount: fmt.Sprint(one.Stars),
			IsOfficial: okWord(one.Official), IsAutomated: okWord(one.Automated),
		}
		if host != "" && !strings.HasPrefix(r.Name, host+"/") {
			r.Name = host + "/" + r.Name
		}
		if !whole {
			r.Description = ellipsis(r.Description, maxDescription)
		}
		rows = append(rows, r)
	}
	return rows, nil
}

func okWord(is bool) string {
	if is {
		return "[OK]"
	}
	return ""
}

package seccomp

// Explanation says what a filter does with one call, and why.
type Explanation struct {
	Call   string
	Number uint32
	Action string // "allow", "EPERM", "ENOSYS", or the rule in words when arguments decide
	Reason string
}

// Explain returns what the filter for o does with each call of its
// architecture, by number. A call that is not in the list gets ENOSYS.
func Explain(o Options) ([]Explanation, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	g, byName := graph{}, policyByName()
	var list []Explanation
	for _, c := range machines[o.Arch].calls {
		p, ok := byName[c.name]
		if !ok {
			continue
		}
		e := Explanation{Call: c.name, Number: uint32(c.number), Action: p.rule.words, Reason: p.reason}
		if d := p.rule.decide(g, o); len(d.spans) == 0 {
			e.Action = actionText(d.action)
		}
		list = append(list, e)
	}
	return list, nil
}

// Package sat decides propositional satisfiability for the prover: conflict-driven
// clause learning over two watched literals, incremental, with assumptions, cores and
// proofs.
//
// The prover asks two kinds of question: thousands of small ones, for each of which
// setting up must cost no more than solving, and now and then one with ten thousand
// clauses. So clauses lie in one array of words, watch lists are cut from one block,
// and Reset keeps both.
//
// A verdict of unsatisfiable is what a policy's safety rests on. A solver can log why
// (Log, Proof), and Check, which shares no code with the search, goes through the
// reasons.
//
// A Solver is deterministic: the same calls give the same answers, models and proofs.
// It is not safe for concurrent use.
package sat

"""COMPILED STEP -> RUN: data in, a run folder out.

    data/          bytes, tokens, points or rows, held-out ones, batches; see its card
    ranks.py       the processes of one run: their lanes, what they tell each other, who is gone
    meetings.py    after which steps a run is saved or ends, on ranks by agreement
    loop.py        the loop; metrics on their way from the device; Ctrl-C
    metrics.py     JSON lines, each step once; the picture of the curve
    checkpoint.py  one safetensors file, whole or not there
    pretrained.py  the files that a spec loads, of any maker or a run; reports tensors not loaded
    averages.py    weights that are scored and used instead of the last ones
    inherited.py   what a new run begins with of another one
    memory.py      memories that outlive a sequence, in a file apart from the weights
    specs.py       a spec and all it imports, as a run keeps them
    bench.py       times a step, compiled and not
    profile.py     what each part of a step takes of its time, and keeps for its backward pass
    watch.py       which part is computed at each instant of a step
    parts.py       the levels for which each function and statement of a step computes
    recorded.py    the derivatives that autograd recorded
    folder.py      decides who may begin a run in a folder; reads its run.json
    records.py     run.json, settings and manifests as models, which name the field that is damaged
    run.py         begins, resumes and opens run folders
    training.py    trains a run: to its end, to an interrupt, or to a loss that is not finite
    evaluation.py  scores a run as it trains: the best of it, and when it has had enough
    compare.py     what differs between runs; means and spreads over seeds
    levels.py      learning rate, gradient and update of each level: journal, screen, picture
    loggers.py     its numbers to TensorBoard or Weights & Biases too
    skipping.py    a step that is not finite leaves the state as it was, if so asked
    capture.py     when the step of a run is compiled: where that pays, and the same when it goes on
    origin.py      a step that is not finite -> the stream, memory, gradient or update it began in
    schedules.py   compares the schedules of a text when a run is made longer
    results.py     scores a trained model, and lets it write after its training
    score.py       the mean of the stream that a text reports: bits per byte, or a loss
    sample.py      lets the model go on with prompts
    drawing.py     scores of the next token -> one that is drawn
    spelling.py    tokens as they come -> text, up to a stop
    generated.py   shows the texts that a trained run goes on with
    display.py     a live line on a terminal, plain lines elsewhere
    idle.py        levels that never tick in so many steps
    faults.py      the faults of a run, N70x to N72x

Guarantees: a batch depends on (seed, step, lane) alone, so N steps are k steps, save, load and N -
k steps, bit for bit on one machine, thread count and torch. A step that was announced as saved
survives SIGKILL and is never run again. The saved state is everything: weights, optimizer buffers,
accumulators, counters, lanes. Scoring never moves the step clock, and starts each document from its
start state. If a memory outlives a sequence, each lane reads on in each step where it stopped.

Decisions: lanes are in the checkpoint, so that a resume needs one file, and once more in
memory.safetensors, to be handed to another run; evaluation and generation write a memory only where
`--remember` says. The manifest is in the checkpoint's header, since two files could disagree after
a kill. The default interval between saves is a minute, not a number of steps: people mind the time
that they lose. A run can be made longer, not shorter: its schedules (`ticks`) stretch over all of
its steps from then on, and the run prints where that puts them. A state that is not finite is never
saved. The best checkpoint is a second name of a saved one, so keeping it writes nothing twice, and
it is never younger than the last checkpoint. Evaluation and generation use the texts in run.json,
so an edited spec does them no harm; only resuming is refused then.
"""

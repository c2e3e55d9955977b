"""Does it learn as the paper says? Runs of equal systems, and a report made of their records.

python -m benchmarks.learning run [--quick] [--hours H]    what is not recorded yet, row by row
python -m benchmarks.learning run --system hope --change "a quarter of the inner rate"
python -m benchmarks.learning report                       benchmarks/LEARNING.md, plots/

scales.py      the sizes that all systems share
systems.py     specs of examples/, what is changed in their texts, changes that are tried, widths
               of equal parameters
tasks/         laws that sequences are drawn from, and what is scored
protocol.py    a run: the rate is chosen, each seed trained and scored, one line of JSON kept
runs.py        what is read off runs
statistics.py  when a difference is one: the rule of all verdicts
paper.py       what the papers print
claims.py      what they claim, judged by the rule
tables.py      the tables of the page
plots.py       which curves are drawn; charts.py draws them
report.py      the page
data/          a subset of CLINC150, with its notice
records/       a line for each run, those that did not work too
__main__.py    the commands
"""

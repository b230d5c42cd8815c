"""Salient clips: is predicting from the clips that matter better and cheaper than from uniform ones?

The IG-65M paper takes the ten clips that SCSampler (Korbar et al., 2019) ranks highest. Here a small network is trained
on trimmed generated videos, samplers are trained with it as their teacher on untrimmed ones, and every way to choose
clips is judged on the same held-out untrimmed videos. `make salience` runs all of it.

What was tried to set the difficulty is in `config`. Nothing was tuned on the difference between the arms.

Reading order: config (sizes), videos (what is generated), network (the model, trained and exported), samplers (trained
on its scores), scoring (every window of every video, once), arms (ways to choose clips, as arithmetic on those scores),
costs (operations and seconds), served (the same through a server), seed (all of this for one seed), verdicts (what is
shown over seeds), report (results.json, the page and the chart), run (all seeds).
"""

"""The store: what a study is on disk, written so that a crash at any moment loses nothing and hides nothing.

    runs/<study>/manifest.json            every cell of the study, written first
    runs/<study>/local.json               where plugins and texts of the user's lie on this machine: never shared
    runs/<study>/cells/<cell>/spec.json   what the cell is
                              attempt.json    when the present attempt began, with which code, on what
                              metrics.jsonl   appended while it trains
                              result.json     written last; its presence means that the cell is done
                              log.txt         what the cell's process printed
                              lock, heartbeat.json    who runs it now
                              checkpoints/    last and best
                              attempts/<n>/   what earlier attempts left: never deleted

Standard library only (`frame.load` imports pandas when called), so that `status` and the reports start at once.
"""

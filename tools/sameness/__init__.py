"""Every built-in task on real peers, 1 to 5 of them, disturbed by a script: the same bits?"""

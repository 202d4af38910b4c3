"""Who to try, and in what order. Pure: facts in, decisions out; time and chance are arguments."""

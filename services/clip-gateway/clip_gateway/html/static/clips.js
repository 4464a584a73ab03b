// The script of every page: shows times in the reader's time zone.

import "./times.js";

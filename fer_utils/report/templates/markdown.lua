-- Formulas carry their TeX as alt text; links between notebooks become links between pages; in
-- HTML, headings can be linked to and tables scroll by themselves.
local function quote(text)
  return '"' .. text:gsub("\\", "\\\\"):gsub('"', '\\"') .. '"'
end

-- LaTeX keeps pairs of columns apart, Typst does not.
local function spread(open, body, close)
  if body:find("\\begin", 1, true) then return nil end
  local rows = {}
  for row in (body .. "\\\\"):gmatch("(.-)\\\\") do
    local count = 0
    rows[#rows + 1] = row:gsub("&", function()
      count = count + 1
      return count % 2 == 0 and "\\qquad &" or "&"
    end)
  end
  return open .. table.concat(rows, "\\\\") .. close
end

function Math(formula)
  if FORMAT ~= "typst" then return nil end
  local source = formula.text
  formula.text = source:gsub("(\\begin{aligned})(.-)(\\end{aligned})", spread)
  local code = pandoc.write(pandoc.Pandoc { pandoc.Para { formula } }, "typst"):gsub("%s+$", "")
  return pandoc.RawInline("typst", "#eq(" .. quote(source) .. ", " .. code .. ")")
end

function Link(link)
  local name = link.target:match("^([%w_]+)%.ipynb$")
  if name and FORMAT == "typst" then
    return { pandoc.RawInline("typst", "#chapter-link(" .. quote(name) .. ")["),
      pandoc.Span(link.content), pandoc.RawInline("typst", "]") }
  elseif name then
    link.target = name .. ".html"
    return link
  elseif not link.target:match("^%a+:") and (FORMAT == "typst" or not link.target:match("^#")) then
    return link.content -- a file of the project does not travel with the pages
  end
end

function Image(image)
  error("a picture in Markdown (" .. image.src .. "): draw it in a code cell and show(...) it")
end

function Table(table)
  if FORMAT ~= "html" then return table end
  return pandoc.Div(table, { class = "wide", tabindex = "0" })
end

-- A table of words, as markup.table writes it.
function CodeBlock(code)
  if code.classes[1] == "dataframe" then return pandoc.read(code.text, "html").blocks:map(Table) end
end

-- HTML in Markdown may come from data: shown as it is written, never obeyed.
function RawInline(raw)
  if raw.format == "html" then return pandoc.Str(raw.text) end
end

function RawBlock(raw)
  if raw.format == "html" then return pandoc.Para { pandoc.Str(raw.text) } end
end

function Header(heading)
  if FORMAT ~= "html" then return nil end
  local about = { class = "anchor", ["aria-label"] = "Link to this section" }
  heading.content:extend { pandoc.Space(), pandoc.Link("#", "#" .. heading.identifier, "", about) }
  return heading
end


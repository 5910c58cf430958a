-- Old song or new?  Acceptors: the last state of an LSTM that has read the words decides.
require 'rnn'
torch.manualSeed(1)

local SONGS = {                                   -- two old ones, two new ones, in lines of five words
   {'should old acquaintance be forgot', 'and never brought to mind', 'should old acquaintance be forgot'},
   {'twinkle twinkle little star how', 'i wonder what you are', 'up above the world so'},
   {'push the button get fries', 'push the button get more', 'push it till it breaks'},
   {'my phone is my friend', 'my friend is my phone', 'hey phone hey friend hey'},
}
local SIZE = 6                                    -- of a word's vector and of the state

local vocabulary, count, rows = {}, 0, {}         -- words become numbers, counted from 1
for i, song in ipairs(SONGS) do
   rows[i] = {}
   for word in table.concat(song, ' '):gmatch('%S+') do
      if not vocabulary[word] then
         count = count + 1
         vocabulary[word] = count
      end
      table.insert(rows[i], vocabulary[word])
   end
end
local songs = torch.LongTensor(rows)              -- 4 songs x 15 words
local old = torch.Tensor{{1}, {1}, {0}, {0}}      -- 4 songs x 1

local function acceptor(split, ...)
   local model = nn.Sequential()
   model:add(nn.LookupTable(count, SIZE))         -- words to vectors
   model:add(split)                               -- a tensor to a table of steps
   for _, layer in ipairs{...} do model:add(layer) end
   model:add(nn.SelectTable(-1))                  -- the last state
   model:add(nn.Linear(SIZE, 1)):add(nn.Sigmoid())
   return model
end

local function train(model, inputs, targets, iterations)
   local criterion, losses = nn.BCECriterion(), {}
   for i = 1, iterations do
      local k = (i - 1) % #inputs + 1
      if k == 1 then model:forget() end           -- another round: matters only if the model remembers
      local output = model:forward(inputs[k])
      local loss = criterion:forward(output, targets[k])
      model:zeroGradParameters()
      model:backward(inputs[k], criterion:backward(output, targets[k]))
      model:updateParameters(0.5)
      if i % 10 == 0 then table.insert(losses, string.format('%.4f', loss)) end
   end
   print('  loss at every 10th step: ' .. table.concat(losses, ' '))
end

local function show(line, predictions)
   for i, song in ipairs(SONGS) do
      print(string.format('  %.3f  %s', predictions[i]:squeeze(), song[line]))
   end
end

print('One song at a time')
local firstLines = songs:narrow(2, 1, 5)
local model = acceptor(nn.SplitTable(1), nn.Sequencer(nn.LSTM(SIZE, SIZE)))
local inputs, targets = {}, {}
for i = 1, 4 do inputs[i], targets[i] = firstLines[i], old[i] end
train(model, inputs, targets, 40)
local predictions = {}
for i = 1, 4 do predictions[i] = model:forward(firstLines[i]):clone() end
show(1, predictions)

print('All songs at once')
local batch = firstLines:t()                      -- 5 words x 4 songs
local model = acceptor(nn.SplitTable(1, 3), nn.Sequencer(nn.LSTM(SIZE, SIZE)))
train(model, {batch}, {old}, 40)
show(1, model:forward(batch))

print('Two layers, with dropout between them')
local model = acceptor(
   nn.SplitTable(1, 3),
   nn.Sequencer(nn.LSTM(SIZE, SIZE)),
   nn.Sequencer(nn.Dropout(0.2)),
   nn.Sequencer(nn.LSTM(SIZE, SIZE))
)
train(model, {batch}, {old}, 100)
model:evaluate()                                  -- from here on without dropout
show(1, model:forward(batch))

print('Line by line, with memory')
local model = acceptor(nn.SplitTable(1, 3), nn.Sequencer(nn.LSTM(SIZE, SIZE)))
model:remember('both')                            -- in training and in evaluation
local lines = songs:t():split(5, 1)               -- 3 lines of 5 words x 4 songs
train(model, lines, {old, old, old}, 60)
model:evaluate()                                  -- this forgets as well
for k, line in ipairs(lines) do show(k, model:forward(line)) end
local remembered = model:forward(lines[1]):clone()
model:forget()
local afresh = model:forward(lines[1])
print(string.format('  what came before changes a prediction by up to %.3f', (remembered - afresh):abs():max()))
